"""Form and content apart: what was said in the form that was asked for, and what of that is right.

A student that was shown how an answer is marked has more right answers without knowing more, and a draft that merely
shows the tag wins. Accuracy = P(readable) × P(right when readable), and so a gain has a part of each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.diagnostics.cells import between, most_frequent, percent, points, points_between
from arte_plugin.diagnostics.clustered import ratio, share
from arte_plugin.language import answers
from arte_plugin.language.answer_types import AnswerType
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence, Lines, NoSettings
from arte_plugin.rows import Dropped, Result, TailoredExample, wilson

#: Why a reply of the teacher's is in no form to be used.
_FORMLESS = ("rationale_without_answer", "rationale_truncated", "rationale_thought_unfinished",
             "rationale_with_special_string")  # fmt: skip


@dataclass(frozen=True)
class Read:
    """How some replies came out; broken numbers are means over seeds."""

    n: int
    readable: float
    right: float

    def shares(self) -> tuple[float, float] | None:
        """Readable, and right when readable; None where nothing is readable."""
        return (self.readable / self.n, self.right / self.readable) if self.readable else None


@dataclass(frozen=True)
class Part:
    """A part of a difference of two accuracies, -1..1, with a 95 % interval."""

    difference: float
    low: float
    high: float


class Format:
    """Readable, and right when readable: probes, test answers and what the teacher wrote, by arm."""

    Settings: ClassVar[type[Block]] = NoSettings
    version: ClassVar[int] = 2
    costs: ClassVar[str] = "nothing"
    title: ClassVar[str] = "Form and content: what can be read, and what of that is right"

    def __init__(self, settings: NoSettings):
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """It asks nobody."""
        return ()

    def table(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], results: Sequence[Result], asking: Asking
    ) -> Lines:
        """A line for each kind of replies, with 95 % intervals, and below an arm's what its gain is made of.

        Intervals are Wilson's; those of probes allow for the few questions that all drafts were shown with.

        By chance is what the most frequent answer alone is right for. What an example claims is its own teacher's word:
        *right* is there where its rationale ends in the answer that was claimed with the question.
        """
        lines = [["task", "replies", "of", "n", "readable", "right when readable", "right", "right by chance"]]
        for task in tasks:
            known = evidence[task.name]
            lines += [[task.name, *cells] for cells in (*_asked(task, known), *_written(task, known))]
            lines += [[task.name, *cells] for cells in _tested(task, [row for row in results if row.task == task.name])]
        return lines


def split(base: Read, arm: Read) -> tuple[Part, Part] | None:
    """The parts of the arm's gain over base by form and by content, which add up to it.

    With p the readable share and q that of right ones among these, p₂q₂ - p₁q₁ = (p₂ - p₁)(q₁ + q₂)/2 +
    (q₂ - q₁)(p₁ + p₂)/2: each factor's change, the other as it is in the mean of both. Intervals are of the delta
    method, for two samples that share no question, which for the same questions is on the safe side. None where one of
    both has nothing readable, so that its q is anyone's guess.
    """
    first, second = base.shares(), arm.shares()
    if first is None or second is None:
        return None
    (p1, q1), (p2, q2) = first, second
    p_variance = sum(_variance(one.readable, one.n) for one in (base, arm))
    q_variance = sum(_variance(one.right, one.readable) for one in (base, arm))
    p_mean, q_mean, p_change, q_change = (p1 + p2) / 2, (q1 + q2) / 2, p2 - p1, q2 - q1
    return (
        _part(p_change * q_mean, q_mean**2 * p_variance + (p_change / 2) ** 2 * q_variance),
        _part(q_change * p_mean, p_mean**2 * q_variance + (q_change / 2) ** 2 * p_variance),
    )


def _variance(part: float, whole: float) -> float:
    """Of a share, with two added to what is and what isn't (Agresti and Coull, 1998)."""
    share = (part + 2) / (whole + 4)
    return share * (1 - share) / (whole + 4)


def _part(difference: float, variance: float) -> Part:
    half = 1.959963984540054 * variance**0.5
    return Part(difference, max(-1.0, difference - half), min(1.0, difference + half))


def _cells(replies: str, of: str, read: Read, chance: float | None) -> list[str]:
    cells = [replies, of, str(read.n)]
    for part, whole in ((read.readable, read.n), (read.right, read.readable), (read.right, read.n)):
        cells.append(f"{percent(part / whole)} ({between(*wilson(part, whole))})" if whole else "-")
    return [*cells, percent(chance)]


def _asked(task: Task, known: Evidence) -> Iterable[list[str]]:
    """The student's replies before it was trained: without an example, and with a draft as its one."""
    targets = {one.question_id: one.target for one in task.validation}
    alone = [row for row in known.responses if row.shots == 0]
    for name in dict.fromkeys(row.respondent for row in alone):
        rows = [row for row in alone if row.respondent == name]
        chance = most_frequent(
            [targets[row.question_id] for row in rows if row.question_id in targets], task.args.answer
        )
        yield _cells("validation, no example", name, _of_outcomes([row.outcome for row in rows]), chance)
    outcomes: dict[str, list[tuple[str, str, str]]] = {}
    for probe in known.probes():
        outcomes.setdefault(probe.student, []).append((probe.draft_id, probe.preference_id, probe.outcome))
    chance = most_frequent([one.target for one in known.preference_set], task.args.answer)
    for name, cells in outcomes.items():
        readable, right = (
            [(draft, question, float(outcome in of)) for draft, question, outcome in cells]
            for of in (("correct", "wrong"), ("correct",))
        )
        shown = [
            "-" if one is None else f"{percent(one.share)} ({between(one.low, one.high)})"
            for one in (share(readable), ratio(right, readable), share(right))
        ]
        yield ["probes, a draft shown", name, str(len(cells)), *shown, percent(chance)]


def _of_outcomes(outcomes: Sequence[str]) -> Read:
    right = outcomes.count("correct")
    return Read(len(outcomes), right + outcomes.count("wrong"), right)


def _written(task: Task, known: Evidence) -> Iterable[list[str]]:
    """What the teacher wrote: how many replies had the form, and how many of what was kept is as it claimed."""
    kind = task.args.answer
    written = {"elicit": [(row.rationale, row.answer, row.target) for row in known.drafts]}
    # Arms share rows: each reply counts once.
    unique: dict[TailoredExample, None] = dict.fromkeys(row for rows in known.examples.values() for row in rows)
    drafted = {(row.question, row.rationale) for row in known.drafts}
    written["regenerate"] = [
        (row.rationale, row.answer, row.target) for row in unique if (row.question, row.rationale) not in drafted
    ]
    for stage, what in (("elicit", "rationales of drafts"), ("regenerate", "rationales of examples")):
        lost = [row for row in known.dropped if row.stage == stage and row.task == task.name and _formless(row)]
        if written[stage] or lost:
            yield _cells(what, "teacher", _of_rationales(written[stage], kind, len(lost)), _usual(written[stage], kind))
    for arm, rows in known.examples.items():
        of_arm = [(row.rationale, row.answer, row.target) for row in rows]
        yield _cells("examples", arm, _of_rationales(of_arm, kind), _usual(of_arm, kind))


def _formless(row: Dropped) -> bool:
    return row.reason in _FORMLESS


def _of_rationales(written: Sequence[tuple[str, str, str]], kind: AnswerType, lost: int = 0) -> Read:
    """By the text itself, as the student will see it; not by the answer that stands beside it."""
    ends = [(answers.tagged(rationale, kind), target) for rationale, _, target in written]
    readable = [(answer, target) for answer, target in ends if answer is not None]
    right = sum(answers.same(answer, target, kind) for answer, target in readable)
    return Read(len(ends) + lost, len(readable), right)


def _usual(written: Sequence[tuple[str, str, str]], kind: AnswerType) -> float | None:
    return most_frequent([target for _, _, target in written], kind)


def _tested(task: Task, results: Sequence[Result]) -> Iterable[list[str]]:
    """The test answers by arm, and what of an arm's gain over the untouched student is form."""
    keys = list(dict.fromkeys((row.student, row.shots, row.arm) for row in results))
    several = len({row.student for row in results}) > 1
    read = {}
    for key in keys:
        rows = [row for row in results if (row.student, row.shots, row.arm) == key]
        read[key] = Read(rows[0].n, fmean(row.n - row.unparsed for row in rows), fmean(row.correct for row in rows))
    for student, shots, arm in keys:
        name = f"{student}/{arm}" if several else arm
        one = read[student, shots, arm]
        chance = most_frequent([question.target for question in task.test[: one.n]], task.args.answer)
        yield _cells(f"test, {shots} shots", name, one, chance)
        base = read.get((student, shots, "base"))
        if arm == "base" or base is None:
            continue
        cells = ["-", "-"]
        if parts := split(base, one):
            cells = [f"{points(part.difference)} ({points_between(part.low, part.high)})" for part in parts]
        gain = one.right / one.n - base.right / base.n if one.n and base.n else 0.0
        yield [f"test, {shots} shots", f"{name} less base: by form, by content, in all", str(one.n), *cells,
               points(gain), "0"]  # fmt: skip
