"""Would other respondents have chosen the same preference set, and does it stand for the whole validation set?

Stage 2 tells the first (`stages.stability`), the check of stage 3 the second (`stages.set_consistency`; paper,
section 3.2).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence, Lines, NoSettings
from arte_plugin.rows import Result


class PreferenceSet:
    """Stability and consistency of the preference set, beside what random sets of its size come to."""

    Settings: ClassVar[type[Block]] = NoSettings
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing; its columns of consistency need `preference_set.consistency_questions`"
    title: ClassVar[str] = "The preference set: would others have chosen it, does it stand for the whole?"

    def __init__(self, settings: NoSettings):
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """It asks nobody."""
        return ()

    def table(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], results: Sequence[Result], asking: Asking
    ) -> Lines:
        """What stages 2 and 3 found."""
        reports = next((known.reports for known in evidence.values()), {})
        return preference_set_lines(reports.get("preference-set", {}))


def preference_set_lines(report: Mapping[str, Any]) -> list[list[str]]:
    """The report as a table: the preference set of each task, and below it what random sets of its size come to.

    The check's columns are there only if there was one, and the student's only if there were several.
    """
    students = {student for task in report.values() for student in task["consistency"]}
    head = ["task", "preference set", "size", "of", "flat", "halves agree", "p"]
    if students:
        head += ["compared", "best the same", "95 % interval", "worst the same", "95 % interval", "rank correlation"]
    if len(students) > 1:
        head += ["student"]
    lines = [head]
    for name, task in report.items():
        sizes = [str(task["size"]), str(task["validation"])]
        for student, found in task["consistency"].items() or [("", None)]:
            mine, theirs = _cells(found, "preference_set", student), _cells(found, "random_sets", student)
            p = "" if task["p"] is None else f"{task['p']:.2f}"
            known = task["overlap"] is not None
            agree = [_percent(one) if known else "can't be told" for one in (task["overlap"], task["chance"])]
            lines.append([name, task["method"], *sizes, str(task["flat"]), agree[0], p, *mine])
            if found or (known and task["method"] == "irt"):
                lines.append(["", "by chance", *sizes, "", agree[1], "", *theirs])
    return [[*line, *[""] * len(head)][: len(head)] for line in lines]


def _cells(found: Mapping[str, Any] | None, which: str, student: str) -> list[str]:
    """What was found of the preference set or of random ones, as cells of the table."""
    if found is None:
        return []
    agreed = found[which]
    cells = [f"{round(agreed['compared'], 1):g} of {found['questions']}"]
    for end in ("best", "worst"):
        low, high = 100 * agreed[end]["low"], 100 * agreed[end]["high"]
        cells += [_percent(agreed[end]["share"]), f"{low:.1f} to {high:.1f}"]
    correlation = agreed["rank_correlation"]
    return [*cells, "-" if correlation is None else f"{correlation:.2f}", student]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
