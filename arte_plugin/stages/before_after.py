"""Between stages 5 and 6: did the training move the teacher, and does the student like what it writes now?

Both teachers, as it was and as it is, are asked the same: the question prompts that stage 6 begins with, and, under the
plain prompt, questions that neither was trained on. The student is then shown what both wrote, as in stage 3, on
validation questions that no preference was taken from. Not in the paper.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np

from arte_plugin.config.align import TRAINED, VALIDATION
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.data.same_question import comparable
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Reply
from arte_plugin.errors import TeacherError
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.likelihoods import ask_likelihoods
from arte_plugin.models.model import Model
from arte_plugin.operators.solve import solve_orders
from arte_plugin.planners.paper import paper_orders
from arte_plugin.rows import AnswerLikelihood, Draft, PreferencePair, PreferenceQuestion, Probe, wilson
from arte_plugin.stages.choosing import preference_question
from arte_plugin.stages.likelihood import weigh
from arte_plugin.stages.liking import Paired, Table, paired, paired_shares, sign_flip_p
from arte_plugin.stages.new_questions import WrittenQuestion, first_wave, put, write_questions
from arte_plugin.stages.orders import RESIDENTS, Ways
from arte_plugin.stages.probing import probe
from arte_plugin.stages.rationales import write_rationales
from arte_plugin.strategies.pairs import rendered

STAGE = "align-check"
#: The calls are those of stage 6, which need not be made twice.
AS_IN = "regenerate"


@dataclass(frozen=True)
class Written:
    """A teacher's rationale to the plain prompt; `answer` is None where it is none that a student could be shown."""

    text: str
    answer: str | None


@dataclass(frozen=True)
class Rewritten:
    """What the teacher wrote to one question before and after its alignment."""

    task: str
    question_id: str
    question: str
    target: str
    before: str
    after: str
    answer_before: str | None
    answer_after: str | None

    @property
    def changed(self) -> bool:
        """Whether a single character differs."""
        return self.before != self.after

    @property
    def usable(self) -> bool:
        """Whether both end in an answer."""
        return self.answer_before is not None and self.answer_after is not None


@dataclass(frozen=True)
class Weighed:
    """A pair's log-probabilities (natural logarithm, of the whole completion) under the teacher before and after."""

    pair_id: str
    task: str
    level: str
    #: `held_out` or `trained`.
    side: str
    chosen_before: float
    rejected_before: float
    chosen_after: float
    rejected_after: float

    @property
    def margin(self) -> float:
        """How far log(chosen / rejected) has moved, in nats: DPO's implicit reward margin without its beta."""
        return (self.chosen_after - self.chosen_before) - (self.rejected_after - self.rejected_before)


# --- What a teacher is asked ------------------------------------------------------------------------------------------


def new_questions(
    task: Task, teacher: Model, settings: RegenerateArgs, asking: ElicitArgs, wanted: int, seed: int
) -> list[WrittenQuestion]:
    """The first `wanted` of the questions that the teacher would write for stage 6; none of them is in the pairs.

    Raises `TeacherError` where it writes nothing usable.
    """
    orders = paper_orders(task, asking.seeds_per_prompt, asking.questions_per_prompt, AS_IN, seed)
    return write_questions(task, teacher, orders, RESIDENTS, _ways(settings, asking, seed), wanted).kept


def question_replies(
    task: Task, teacher: Model, settings: RegenerateArgs, asking: ElicitArgs, wanted: int, seed: int
) -> list[str]:
    """The replies to the question prompts of a first wave, by call; without thoughts that came to an end."""
    orders = paper_orders(task, asking.seeds_per_prompt, asking.questions_per_prompt, AS_IN, seed)
    ways = _ways(settings, asking, seed)
    requests = [put(task, teacher, order, RESIDENTS, ways).request for order in first_wave(orders, wanted)]
    texts = [one.text for one in teacher.ask(requests, f"{STAGE} {task.name}: question replies")]
    return [text if (said := teacher.renderer.said(text)) is None else said for text in texts]


def rationales(
    task: Task,
    teacher: Model,
    questions: Sequence[WrittenQuestion],
    settings: RegenerateArgs,
    asking: ElicitArgs,
    seed: int,
) -> dict[str, Written]:
    """Greedy rationales under the plain prompt, by the question's id.

    Raises `TeacherError` where not one of them ends in an answer.
    """
    orders = solve_orders([one.as_question() for one in questions])
    ways = replace(_ways(settings, asking, seed), temperature=0.0)
    written, dropped = write_rationales(task, teacher, orders, RESIDENTS, ways)
    without = {row.id: row.text for row in dropped}
    return {
        order.order_id: Written(*one) if one is not None else Written(without.get(order.order_id, ""), None)
        for order, one in zip(orders, written, strict=True)
    }


def _ways(settings: RegenerateArgs, asking: ElicitArgs, seed: int) -> Ways:
    """As stage 6 asks for questions."""
    return Ways(AS_IN, seed, settings.temperature, settings.max_new_tokens, asking.prefill, asking.max_calls)


def log_probabilities(pairs: Sequence[PreferencePair], teacher: Model) -> list[tuple[float, float]]:
    """Of each pair's chosen and rejected completion behind its prompt, all rendered as they are trained on."""
    replies = [reply for pair in pairs for reply in _as_trained(pair, teacher.renderer)]
    found = [one.log_probability for one in ask_likelihoods(teacher, replies, f"{STAGE}: pairs")]
    return list(zip(found[::2], found[1::2], strict=True))


def _as_trained(pair: PreferencePair, renderer: Renderer) -> list[Reply]:
    prompt, *completions = rendered(vars(pair), renderer)
    return [Reply(prompt, text, pair.pair_id) for text in completions]


def some_trained(pairs: Sequence[PreferencePair], seed: int) -> list[PreferencePair]:
    """At most `TRAINED` pairs of each task."""
    kept: list[PreferencePair] = []
    for task in dict.fromkeys(pair.task for pair in pairs):
        of_task = [pair for pair in pairs if pair.task == task and not pair.is_copy]
        if len(of_task) > TRAINED:
            of_task = random.Random(f"{seed}/{task}/{STAGE}/trained").sample(of_task, TRAINED)
        kept += of_task
    return kept


# --- What the student makes of it -------------------------------------------------------------------------------------


def shown_with(
    task: Task, preference_set: Sequence[PreferenceQuestion], seed: int, own: bool = True
) -> list[PreferenceQuestion]:
    """Validation questions outside of the preference set, or, if there are none, those held out for the rounds.

    Where the set is another run's, whose tasks may have other names and splits, its questions are known by their text.
    """
    if own:
        chosen = {question.preference_id for question in preference_set if question.task == task.name}
        rest = [one for one in task.validation if one.question_id not in chosen] or list(task.held_out)
    else:
        taken = {comparable(question.question) for question in preference_set}
        splits = [
            [one for one in split if comparable(one.question) not in taken]
            for split in (task.validation, task.held_out)
        ]
        rest = splits[0] or splits[1]
    if len(rest) > VALIDATION:
        rest = random.Random(f"{seed}/{task.name}/{STAGE}/validation").sample(rest, VALIDATION)
    return [preference_question(one) for one in rest]


@dataclass(frozen=True)
class Answers:
    """A student's answers with one task's rationales: tables of (draft questions, validation questions), 0..1."""

    right_before: Table
    right_after: Table
    #: None where answers were weighed, not written.
    readable_before: Table | None = None
    readable_after: Table | None = None


def ask_student(
    task: Task, rows: Sequence[Rewritten], questions: Sequence[PreferenceQuestion], student: Model, settings: ProbeArgs
) -> tuple[Answers, list[Probe]]:
    """Show a student both rationales of each of `rows`; one that did not change is shown once. The probes too."""
    before = [_draft(row, "before") for row in rows]
    after = [_draft(row, "after") for row in rows if row.changed]
    names = [question.preference_id for question in questions]
    values: dict[tuple[str, str], tuple[float, float]] = {}
    probes: list[Probe] = []
    if settings.score == "answers":
        probes = list(probe(task, [*before, *after], questions, student, settings))
        for one in probes:
            values[one.draft_id, one.preference_id] = float(one.outcome == "correct"), float(one.outcome != "unparsed")
    else:
        one_: AnswerLikelihood
        for one_ in weigh(task, [*before, *after], questions, student, settings):
            values[one_.draft_id, one_.preference_id] = math.exp(one_.log_probability), 1.0

    def table(which: str, part: int) -> Table:
        sides = [which if row.changed else "before" for row in rows]
        return np.array(
            [
                [values[_id(row, side), name][part] for name in names]
                for row, side in zip(rows, sides, strict=True)
            ]
        )  # fmt: skip

    right = table("before", 0), table("after", 0)
    if settings.score != "answers":
        return Answers(*right), probes
    return Answers(*right, table("before", 1), table("after", 1)), probes


def _id(row: Rewritten, side: str) -> str:
    return f"{row.question_id}-{side}"


def _draft(row: Rewritten, side: str) -> Draft:
    rationale, answer = (row.before, row.answer_before) if side == "before" else (row.after, row.answer_after)
    name, texts = _id(row, side), (row.question, row.target, side, rationale, answer or "")
    return Draft(name, row.task, row.question_id, *texts, question_prompt="", solve_prompt="")


def mean_student(answers: Sequence[Answers], weights: Sequence[float]) -> Answers:
    """Several students as one: the mean of their answers, by weight, as in a draft's score."""

    def mean(tables: Sequence[Table | None]) -> Any:
        return None if any(one is None for one in tables) else np.average(np.array(tables), axis=0, weights=weights)

    return Answers(
        mean([one.right_before for one in answers]), mean([one.right_after for one in answers]),
        mean([one.readable_before for one in answers]), mean([one.readable_after for one in answers]),
    )  # fmt: skip


# --- What comes of it, ready for JSON ---------------------------------------------------------------------------------


def share(changed: int, n: int) -> dict[str, Any]:
    """A share with n and its 95 % Wilson interval; None and the whole range for n = 0."""
    low, high = wilson(changed, n)
    return {"changed": changed, "n": n, "share": changed / n if n else None, "low": low, "high": high}


def liking(answers: Sequence[Answers], seed: int) -> dict[str, Any]:
    """The paired difference in s_r over tasks; s_r is P(readable) times P(right when readable), and so split."""
    right = [(one.right_before, one.right_after) for one in answers]
    found: dict[str, Any] = {
        "questions": sum(len(one.right_before) for one in answers),
        "validation": [one.right_before.shape[1] for one in answers],
        "score": vars(paired(right).possible()),
        "p": sign_flip_p(right, seed),
    }
    readable = [(one.readable_before, one.readable_after) for one in answers]
    if all(before is not None for before, _ in readable):
        tables = [
            (right[0], both[0], right[1], both[1]) for right, both in zip(right, readable, strict=True)
        ]  # fmt: skip
        shares: Paired | None = paired_shares(tables)  # type: ignore[arg-type]
        found["readable"] = vars(paired(readable).possible())  # type: ignore[arg-type]
        found["right_when_readable"] = vars(shares.possible()) if shares else None
    return found


def rewards(rows: Sequence[Weighed]) -> dict[str, Any]:
    """Reward accuracy (chance: a half; no change counts half) and mean margin in nats, with 95 % intervals, by level.

    The interval of the margin is Student's. Empty for no rows.
    """
    levels = {"all": list(rows)}
    levels |= {level: [row for row in rows if row.level == level] for level in ("question", "rationale")}
    return {name: _rewards(some) for name, some in levels.items() if some}


def _rewards(rows: Sequence[Weighed]) -> dict[str, Any]:
    from scipy.stats import t

    margins = [row.margin for row in rows]
    n = len(margins)
    right = sum(margin > 0 for margin in margins) + sum(margin == 0 for margin in margins) / 2
    low, high = wilson(right, n)
    half = float(t.ppf(0.975, n - 1)) * stdev(margins) / n**0.5 if n > 1 else None
    mean = fmean(margins)
    return {
        "n": n,
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "margin": mean,
        "margin_low": None if half is None else mean - half,
        "margin_high": None if half is None else mean + half,
    }


def what_failed(error: TeacherError) -> str:
    """An error's first sentence, for a table."""
    return str(error).partition(". ")[0]


def usable(rows: Sequence[Rewritten], side: str) -> int:
    """How many of a side's rationales end in an answer."""
    return sum((row.answer_before if side == "before" else row.answer_after) is not None for row in rows)
