"""Stage 3, probes: the student answers the preference set with each draft as its one example (section 3.2)."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Request
from arte_plugin.errors import DataError
from arte_plugin.models.model import Model
from arte_plugin.models.probes import asking_again, judged, probe_request
from arte_plugin.models.student_replies import student_replies
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, Score, wilson
from arte_plugin.stages import racing
from arte_plugin.stages.readable import Readings, refuse_unreadable, sample_size

#: Probes in memory at a time.
PART = 16384


def probe(
    task: Task,
    drafts: Sequence[Draft],
    preference_set: Sequence[PreferenceQuestion],
    student: Model,
    settings: ProbeArgs,
) -> Iterator[Probe]:
    """One greedy, one-shot student call for each draft and preference question; a draft's siblings share a prefix.

    The rows come draft by draft, a part of them in memory at a time. Nothing is asked before the first is taken, and
    every rank must take them all. Raises `StageError` where hardly any of the first replies can be read
    (`probe.min_readable`).
    """
    first = math.ceil(sample_size(len(drafts) * len(preference_set)) / max(1, len(preference_set)))
    if settings.min_readable > 0 and first:
        # All ranks see the same rows, and so all stop.
        rows = list(_probe(task, drafts[:first], preference_set, student, settings))
        refuse_unreadable(rows, settings.min_readable, settings.ask_again)
        yield from rows
        drafts = drafts[first:]
    yield from _probe(task, drafts, preference_set, student, settings)


def _probe(
    task: Task,
    drafts: Sequence[Draft],
    preference_set: Sequence[PreferenceQuestion],
    student: Model,
    settings: ProbeArgs,
) -> Iterator[Probe]:
    parts = _parts(drafts, len(preference_set), max(PART, 4 * student.batch_size))

    def requests_of(part: Sequence[Draft]) -> list[Request]:
        return [probe_request(task, *planned, student, settings) for planned in product(part, preference_set)]

    def requests() -> Iterator[list[Request]]:
        for part in parts:
            yield requests_of(part)

    completions = student.ask_in_parts(requests, len(drafts) * len(preference_set), f"probe {task.name}")
    for part, of_part in zip(parts, completions, strict=True):
        replies = student_replies(requests_of(part), of_part, asking_again(task, student, settings))
        for planned, reply in zip(product(part, preference_set), replies, strict=True):
            yield judged(task, *planned, student, reply)


def probe_racing(
    task: Task,
    drafts: Sequence[Draft],
    preference_set: Sequence[PreferenceQuestion],
    student: Model,
    settings: ProbeArgs,
    quantile: float,
    seed: int,
) -> list[Probe]:
    """Those of the calls of `probe` that `racing.race` asks for, in the order of `probe`."""
    by_id = {draft.draft_id: draft for draft in drafts}
    questions = {question.preference_id: question for question in preference_set}
    made: dict[racing.Cell, Probe] = {}

    def ask(cells: Sequence[racing.Cell]) -> list[bool]:
        first = sample_size(len(drafts) * len(preference_set)) if settings.min_readable > 0 and not made else 0
        if first:
            answer(cells[:first])
            refuse_unreadable(list(made.values()), settings.min_readable, settings.ask_again)
        answer(cells[first:])
        return [made[cell].outcome == "correct" for cell in cells]

    def answer(cells: Sequence[racing.Cell]) -> None:
        plan = [(by_id[draft], questions[question]) for draft, question in cells]
        requests = [probe_request(task, *planned, student, settings) for planned in plan]
        completions = student.ask(requests, f"probe {task.name}") if requests else []
        replies = student_replies(requests, completions, asking_again(task, student, settings))
        for cell, planned, reply in zip(cells, plan, replies, strict=True):
            made[cell] = judged(task, *planned, student, reply)

    question_of = {draft.draft_id: draft.question_id for draft in drafts}
    racing.race(question_of, list(questions), settings.racing, quantile, f"{seed}/{task.name}/racing", ask)
    return [made[draft, question] for draft in by_id for question in questions if (draft, question) in made]


def _parts(drafts: Sequence[Draft], questions: int, at_a_time: int) -> list[Sequence[Draft]]:
    """Whole drafts, about `at_a_time` probes of them, so that no draft's siblings are parted."""
    count = max(1, at_a_time // max(1, questions))
    return [drafts[start : start + count] for start in range(0, len(drafts), count)]


class Tally:
    """How the probes of each draft came out, counted as they go by."""

    def __init__(self) -> None:
        self.readings = Readings()
        #: By task and student.
        self.by_task: dict[tuple[str, str], Readings] = {}
        #: Task and readings, by draft and student.
        self._by_draft: dict[tuple[str, str], tuple[str, Readings]] = {}

    def counted(self, probes: Iterable[Probe]) -> Iterator[Probe]:
        """The same rows."""
        for row in probes:
            _, of_draft = self._by_draft.setdefault((row.draft_id, row.student), (row.task, Readings()))
            for readings in (self.readings, self.by_task.setdefault((row.task, row.student), Readings()), of_draft):
                readings.add(row)
            yield row

    def scores(self, drafts: Iterable[Draft]) -> list[Score]:
        """s_r of every draft: the share of its probes that were answered right; an unparsed answer is not right."""
        question_of = {draft.draft_id: draft.question_id for draft in drafts}
        scores = []
        for (draft_id, student), (task, of_draft) in self._by_draft.items():
            n, correct, readable = of_draft.n, of_draft.correct, of_draft.readable
            low, high = wilson(correct, n)
            scores.append(
                Score(
                    draft_id=draft_id,
                    question_id=question_of[draft_id],
                    task=task,
                    student=student,
                    score=correct / n,
                    n=n,
                    low=low,
                    high=high,
                    unparsed=of_draft.unparsed,
                    cut_off=of_draft.cut_off,
                    asked_again=of_draft.asked_again,
                    readable=readable / n,
                    right_when_readable=correct / readable if readable else None,
                )
            )
        return scores


def preference_scores(scores: Sequence[Score], weights: Mapping[str, float]) -> dict[str, float]:
    """s_r by draft id; of several students, the mean of theirs with these `weights` (empty: all the same).

    Raises `DataError` where a student in `weights` has no scores, or a draft has none from one of the students.
    """
    students = list(weights) or list(dict.fromkeys(row.student for row in scores))
    of_draft: dict[str, dict[str, float]] = {}
    for row in scores:
        of_draft.setdefault(row.draft_id, {})[row.student] = row.score
    for draft_id, by_student in of_draft.items():
        if missing := [student for student in students if student not in by_student]:
            raise DataError(
                f"Draft {draft_id} has no score from {', '.join(missing)}, only from {', '.join(by_student)}. "
                "Scores of several students must be of the same drafts and under the students' names."
            )
    total = sum(weights.get(student, 1.0) for student in students)
    return {
        draft_id: sum(weights.get(student, 1.0) * by_student[student] for student in students) / total
        for draft_id, by_student in of_draft.items()
    }
