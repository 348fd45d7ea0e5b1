"""Scores of drafts and questions from what the signals measure: their weighted mean (`arte.signals`).

A draft's score is s_r, the mean of its measures by the signals' weights. Its n is the smallest of theirs. Its interval
is the weighted mean of their ends: whatever the measures have to do with one another, that is wide enough if each of
theirs is, and for measures that err independently it is wider than need be. What is read off and not estimated has an
interval without width.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from arte_plugin.config.plugs import Chosen
from arte_plugin.config.signals import of, reads_probes, resident, weight
from arte_plugin.data.tasks import Task
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import (
    AnswerLikelihood,
    Draft,
    Dropped,
    Measure,
    PreferenceQuestion,
    Probe,
    Score,
    iter_rows,
    read_rows,
)

STAGE = "probe"

#: Beside the scores: one row for each signal, student and draft or question.
MEASURES = "measures.jsonl"
#: Beside the scores, where a signal measures questions: s_q, one row for each student and question.
QUESTIONS = "questions.jsonl"


@dataclass
class Scoring:
    """The signals of a run, and what they have measured."""

    signals: Sequence[Chosen]
    measures: list[Measure] = field(default_factory=list)
    likelihoods: list[AnswerLikelihood] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._made = [(one, one.made()) for one in self.signals]

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], asking: Asking,
        evidence: Evidence,
    ) -> None:  # fmt: skip
        """Let every signal measure a task's drafts for the student at hand. Every rank must.

        Raises `DataError` for a measure that is none: of something else, twice of the same, or not within 0..1.
        """
        for chosen, signal in self._made:
            given = evidence if reads_probes(chosen) else replace(evidence, probes=_no_probes(chosen))
            given = replace(given, measures=[one for one in self.measures if one.task == task.name])
            known = {(one.draft_id if of(chosen) == "draft" else one.question_id) for one in drafts}
            for row in signal.measure(task, drafts, preference_set, given, asking):
                if isinstance(row, AnswerLikelihood):
                    self.likelihoods.append(row)
                else:
                    self.measures.append(_checked(row, chosen, task, asking.student.name, known))
                    known.discard(row.id)

    def scores(
        self, drafts: Sequence[Draft], counted: Mapping[tuple[str, str], Score] | None = None
    ) -> tuple[list[Score], list[Dropped]]:
        """s_r of every draft for every student, and the drafts that a signal says nothing of: they have none.

        A draft without a score of one student has none of the others either. `counted` are scores by what the probes
        came to, by draft and student, for what they tell beside the score. Raises `DataError` where none has a score.
        """
        of_drafts = [one for one in self.signals if of(one) == "draft"]
        by_draft: dict[tuple[str, str], dict[str, Measure]] = {}
        for row in self.measures:
            if row.of == "draft":
                by_draft.setdefault((row.student, row.id), {})[row.signal] = row
        students = list(dict.fromkeys(row.student for row in self.measures))
        dropped, kept = [], []
        for draft in drafts:
            lacks = next(
                (
                    one.name
                    for student in students
                    for one in of_drafts
                    if one.name not in by_draft.get((student, draft.draft_id), {})
                ),
                of_drafts[0].name if not students else None,
            )
            if lacks is None:
                kept.append(draft)
            else:
                dropped.append(Dropped(STAGE, f"no_{lacks}", draft.task, draft.draft_id, draft.question))
        if drafts and not kept:
            reasons = ", ".join(dict.fromkeys(row.reason for row in dropped))
            raise DataError(
                f"Not one of {len(drafts)} drafts has a score ({reasons}): a signal of `arte.signals` says nothing of "
                "any of them. Leave it out, or look at what the drafts are like."
            )
        made = []
        for student in students:
            for draft in kept:
                found = [by_draft[student, draft.draft_id][one.name] for one in of_drafts]
                mean, low, high, n = mixed(found, [weight(one) for one in of_drafts])
                told = (counted or {}).get((draft.draft_id, student))
                score = Score(
                    draft.draft_id, draft.question_id, draft.task, student, mean, n, low, high,
                    unparsed=told.unparsed if told else 0, signals=self.name,
                )  # fmt: skip
                if told:
                    score = replace(
                        score, cut_off=told.cut_off, asked_again=told.asked_again, readable=told.readable,
                        right_when_readable=told.right_when_readable,
                    )  # fmt: skip
                made.append(score)
        return made, dropped

    @property
    def name(self) -> str:
        """The signals that make s_r, where that isn't the paper's or likelihoods' alone."""
        made_of = [one for one in self.signals if of(one) == "draft"]
        return "" if resident(made_of) else ", ".join(one.name for one in made_of)

    def questions(self) -> list[Measure]:
        """s_q of every question for every student, where signals measure it; empty where none does."""
        signals = {one.name: weight(one) for one in self.signals if of(one) == "question"}
        found: dict[tuple[str, str, str], list[Measure]] = {}
        for row in self.measures:
            if row.signal in signals:
                found.setdefault((row.student, row.task, row.id), []).append(row)
        made = []
        for (student, task, name), rows in found.items():
            if len(rows) < len(signals):
                continue
            mean, low, high, n = mixed(rows, [signals[row.signal] for row in rows])
            raw = rows[0].raw if len(rows) == 1 else mean
            made.append(Measure(", ".join(signals), "question", name, task, student, mean, raw, n, low, high))
        return made


def mixed(rows: Sequence[Measure], weights: Sequence[float]) -> tuple[float, float, float, int]:
    """Mean by weight, both ends of its interval, and n."""
    if len(rows) == 1:
        [only] = rows
        return only.value, only.low, only.high, only.n
    total = sum(weights)
    mean, low, high = (
        sum(w * getattr(row, key) for w, row in zip(weights, rows, strict=True)) / total
        for key in ("value", "low", "high")
    )
    return mean, low, high, min(row.n for row in rows)


def question_preferences(scores_file: Path, weights: Mapping[str, float]) -> dict[str, float]:
    """s_q by question id, as question signals made it; empty where none did, and s_q is the mean of s_r.

    Of several students, the mean of theirs with these `weights` (empty: all the same); of a question that one of them
    has no score of, none.
    """
    file = scores_file.with_name(QUESTIONS)
    if not file.is_file():
        return {}
    rows = read_rows(file, Measure)
    students = list(weights) or list(dict.fromkeys(row.student for row in rows))
    by_question: dict[str, dict[str, float]] = {}
    for row in rows:
        by_question.setdefault(row.id, {})[row.student] = row.value
    total = sum(weights.get(student, 1.0) for student in students)
    return {
        name: sum(weights.get(student, 1.0) * values[student] for student in students) / total
        for name, values in by_question.items()
        if all(student in values for student in students)
    }


def chance_not_known(scores: Iterable[Score], scores_file: Path) -> dict[str, str]:
    """By level, why what chance gives can't be told of these scores; none where it can, from the cells of a score."""
    made_of = next((row.signals for row in scores if row.signals), "")
    found = dict.fromkeys(("question", "rationale"), f"chance isn't known for scores by {made_of}") if made_of else {}
    if (file := scores_file.with_name(QUESTIONS)).is_file():
        of_questions = next(iter_rows(file, Measure)).signal
        found["question"] = f"chance isn't known for question scores by {of_questions}"
    return found


def _checked(row: Measure, chosen: Chosen, task: Task, student: str, known: set[str]) -> Measure:
    # A user's own is named here as the YAML names it, whatever it calls itself.
    row = replace(
        row, signal=chosen.name, task=task.name, student=student, value=float(row.value), raw=float(row.raw),
        low=float(row.low), high=float(row.high),
    )  # fmt: skip
    wrong = ""
    if row.of != of(chosen):
        wrong = f"it measures a {row.of}, and its class says `of = {of(chosen)!r}`"
    elif row.id not in known:
        wrong = f"there is no {row.of} of that id, or it has been measured already"
    elif not 0 <= row.value <= 1 or math.isnan(row.low) or math.isnan(row.high):
        wrong = f"its value is {row.value} (interval {row.low} to {row.high}): values are from 0 to 1"
    if wrong:
        raise DataError(f"Signal {chosen.name}, task {task.name}, {row.of} {row.id}: {wrong}.")
    return row


def _no_probes(chosen: Chosen) -> Callable[[], Iterator[Probe]]:
    def refuse() -> Iterator[Probe]:
        raise ConfigError(
            f"The signal {chosen.name} reads the probes, and its class doesn't say so: write `probes = True` there, so "
            "that they are made."
        )

    return refuse
