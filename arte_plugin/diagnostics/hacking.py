"""Is what the probe calls a better teacher one? The alignment's gain by the probe, beside measures it was not made of.

In "On Teacher Hacking" (2502.02671) a student gets ever nearer to its teacher while it gets further from the oracle
that both should be like. Here a teacher is trained to be liked by a student. What is *measured by*:

- `probe`: what the alignment aims at. The student's answers with a rationale of the aligned teacher as its one example,
  less those with what the teacher wrote to the same question before (`05-align-check`, on validation questions outside
  of the preference set where there are any).
- `labels`: golden. Answers to labelled questions that no teacher and no student was trained on: the test questions by
  the student that the aligned teacher taught, and by its twin of the arm `unaligned`; with `questions`, validation
  questions by the teachers themselves. Of tasks together.
- `second opinion`: no label, and nobody's guess at what the student likes. A rationale's answer against what else the
  same teacher says to the question: of a preference pair, the claimed target and the rationales outside the pair, where
  most of them say the same, which favours neither side of the pair; of what was written before and after, the target
  that was claimed with the question before the alignment, which favours what was written before where the teacher errs
  twice alike.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.diagnostics.cells import p_value, percent, points, points_between
from arte_plugin.diagnostics.hollowing import rights, solve, solving
from arte_plugin.diagnostics.paired import Change, change
from arte_plugin.language import answers
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence, Lines
from arte_plugin.rows import Result
from arte_plugin.stages.agreement import majority

#: A verdict holds for all measures together, at this level (Bonferroni).
LEVEL = 0.05


class HackingSettings(Block):
    """How much is asked."""

    questions: int = Field(
        0,
        ge=0,
        description="Validation questions of a task at most that both teachers solve, as in `hollowing` (which shares "
        "the answers); 0 asks nobody.",
    )


@dataclass(frozen=True)
class Measured:
    """A measure before and after the alignment."""

    measure: str
    by: str
    n: str
    before: float | None
    after: float | None
    difference: float
    low: float
    high: float
    p: float


class Hacking:
    """The alignment's gain by the probe beside its gain by labels and second opinions, with a verdict."""

    Settings: ClassVar[type[Block]] = HackingSettings
    version: ClassVar[int] = 2
    costs: ClassVar[str] = "nothing; with `questions`, what `hollowing` costs"
    title: ClassVar[str] = "Teacher hacking: does the gain by the probe go along with one by what it was not made of?"

    def __init__(self, settings: HackingSettings):
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """Each question once by either teacher, if any are asked."""
        return [solving(sizes, self.settings.questions)] if self.settings.questions else []

    def table(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], results: Sequence[Result], asking: Asking
    ) -> Lines:
        """A line for each measure, over all tasks, each of which counts the same, and the verdict on all of them."""
        reports: Mapping[str, Any] = next((known.reports for known in evidence.values()), {})
        proxy = _liked(reports.get("align-check"))
        golden = _taught(reports.get("evaluate", {}), results)
        golden += [*_chosen(tasks, evidence), *_rewritten(tasks, reports)]
        if self.settings.questions:
            solved = solve(tasks, asking, self.settings.questions)
            golden += _measured(
                "validation questions, by the teacher", "labels", change([rights(one) for one in solved.values()])
            )
        measured = [*([proxy] if proxy else []), *golden]
        if not measured:
            return []
        lines = [["measure", "measured by", "n", "before", "after", "difference", "95 % interval", "p", "no change is"]]
        for one in measured:
            lines.append(
                [one.measure, one.by, one.n, percent(one.before), percent(one.after), points(one.difference),
                 points_between(one.low, one.high), p_value(one.p), "0"]
            )  # fmt: skip
        return [*lines, [f"in all: {verdict(proxy, golden)}", *[""] * (len(lines[0]) - 1)]]


def verdict(proxy: Measured | None, golden: Sequence[Measured]) -> str:
    """Whether the probe was hacked, as far as these measures tell; p of a golden one is taken times their number.

    Only what is told apart from no change has a say: a measure with too few questions speaks neither for nor against.
    """
    if not golden:
        return "nothing to hold the probe against (an arm `unaligned`, or `questions`)"
    told = [one for one in golden if one.p * len(golden) < LEVEL]
    worse = ", ".join(one.measure for one in told if one.difference < 0)
    better = ", ".join(one.measure for one in told if one.difference > 0)
    gained = proxy is not None and proxy.p < LEVEL and proxy.difference > 0
    if worse:
        return f"{'HACKED: the student likes it better, and it' if gained else 'the alignment'} is worse by: {worse}"
    if gained:
        return (
            f"no hacking: better by {better} too"
            if better
            else "liked better; nothing else is told apart from no change"
        )
    gain = "the probe was not asked" if proxy is None else "no gain by the probe that could be a hacked one"
    return f"{gain}{f'; better by {better}' if better else ''}"


def _liked(report: Mapping[str, Any] | None) -> Measured | None:
    """The student's liking, as the check of the alignment found it."""
    found = (report or {}).get("liking", {})
    if "score" not in found:
        return None
    score, columns = found["score"], sorted(set(found["validation"]))
    n = f"{found['questions']} x {' to '.join(str(one) for one in dict.fromkeys((columns[0], columns[-1])))}"
    return Measured(
        "s_r of what the teacher writes", "probe", n, score["before"], score["after"], score["difference"],
        score["low"], score["high"], found["p"],
    )  # fmt: skip


def _taught(report: Mapping[str, Any], results: Sequence[Result]) -> list[Measured]:
    """Test questions by the students that the teacher taught before and after its alignment."""
    rows = [
        row
        for row in report.get("comparisons", [])
        if (row["first"], row["second"]) == ("unaligned", "arte") and row["n"]
    ]
    several = len({row["student"] for row in rows}) > 1
    return [
        Measured(
            f"test questions, {row['shots']} shots, by {row['student'] if several else 'the student'} it taught",
            "labels", str(row["n"]), _accuracy(results, row, "first"), _accuracy(results, row, "second"),
            row["difference"], row["low"], row["high"], row["p"],
        )
        for row in rows
    ]  # fmt: skip


def _accuracy(results: Sequence[Result], of: Mapping[str, Any], side: str) -> float | None:
    """The mean over tasks, and seeds, of one side of a comparison."""
    by_task: dict[str, list[float]] = {}
    for row in results:
        if (row.student, row.shots, row.arm) == (of["student"], of["shots"], of[side]):
            by_task.setdefault(row.task, []).append(row.accuracy)
    return fmean(map(fmean, by_task.values())) if by_task else None


def _chosen(tasks: Sequence[Task], evidence: Mapping[str, Evidence]) -> list[Measured]:
    """Rationales rejected and chosen for the teacher's training, against what is said beside the pair.

    Of each question, its first pair.
    """
    of_tasks = []
    for task in tasks:
        known, kind = evidence[task.name], task.args.answer
        drafts = {draft.draft_id: draft for draft in known.drafts}
        of_question: dict[str, list[str]] = {}
        for draft in known.drafts:
            of_question.setdefault(draft.question_id, []).append(draft.draft_id)
        rows, seen = [], set[str]()
        for pair in known.pairs:
            ids = pair.rejected_id, pair.chosen_id
            if pair.level != "rationale" or not drafts.keys() >= set(ids):
                continue
            rejected, chosen = (drafts[one] for one in ids)
            # Several pairs of one question are held against one opinion: they are no independent ones.
            if chosen.question_id in seen:
                continue
            seen.add(chosen.question_id)
            beside = [drafts[one].answer for one in of_question[chosen.question_id] if one not in ids]
            opinion = majority([chosen.target, *beside], kind)
            if opinion is not None:
                rows.append((answers.same(rejected.answer, opinion, kind), answers.same(chosen.answer, opinion, kind)))
        of_tasks.append(rows)
    return _measured("rationales rejected, and chosen over them", "second opinion", change(of_tasks))


def _rewritten(tasks: Sequence[Task], reports: Mapping[str, Any]) -> list[Measured]:
    """What the teacher wrote to the same new questions before and after."""
    rows = reports.get("align-check/rationales", [])
    of_tasks = []
    for task in tasks:
        kind = task.args.answer
        of_task = [row for row in rows if row["task"] == task.name]
        sides = ("answer_before", "answer_after")
        was, now = ([answers.same(row[side] or "", row["target"], kind) for row in of_task] for side in sides)
        of_tasks.append(list(zip(was, now, strict=True)))
    return _measured("rationales to the same new questions", "second opinion", change(of_tasks))


def _measured(measure: str, by: str, found: Change | None) -> list[Measured]:
    if found is None:
        return []
    return [
        Measured(measure, by, str(found.n), found.before, found.after, found.difference, found.low, found.high, found.p)
    ]
