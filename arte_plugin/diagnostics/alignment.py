"""Did the alignment change what the teacher writes, and does the student like that better? As the check found it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence, Lines, NoSettings
from arte_plugin.rows import Result


class Alignment:
    """What the check behind the teacher's training found: what changed, and whether the student likes it."""

    Settings: ClassVar[type[Block]] = NoSettings
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing; it needs `align.check`, which is on by default"
    title: ClassVar[str] = "The alignment: what changed, and does the student like it?"

    def __init__(self, settings: NoSettings):
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """It asks nobody."""
        return ()

    def table(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], results: Sequence[Result], asking: Asking
    ) -> Lines:
        """What the check found (`05-align-check/alignment.json`)."""
        reports = next((known.reports for known in evidence.values()), {})
        report = reports.get("align-check")
        return alignment_lines(report) if report else []


def alignment_lines(report: Mapping[str, Any]) -> list[list[str]]:
    """The report as a table, with what chance or an unchanged teacher gives beside every figure."""
    lines: list[list[str]] = [["alignment", "n", "before", "after", "difference", "95 % interval", "by chance"]]
    several = len(report["tasks"]) > 1
    for what, key in (("rationales that changed", "rationales"), ("question replies that changed", "replies")):
        lines.append(_share_line(what, report[key]))
        if several:
            lines += [_share_line(f"  {name}", task[key]) for name, task in report["tasks"].items() if task[key]["n"]]
    if n := report["usable"]["n"]:
        shares = [report["usable"][side] / n for side in ("before", "after")]
        change = [_percent(shares[0]), _percent(shares[1]), _points(shares[1] - shares[0])]
        lines.append(["rationales with an answer", str(n), *change, "", "0"])
    for side, name in (("held_out", "held-out pairs"), ("trained", "trained pairs")):
        for level, found in report["rewards"].get(side, {}).items():
            of = name if level == "all" else f"  {level} level"
            lines += _reward_lines(of, found)
    found = report["liking"]
    if "skipped" not in found:
        lines += _liking_lines("score s_r", found)
        for part, what in (("readable", "  readable"), ("right_when_readable", "  right when readable")):
            if found.get(part):
                lines.append(_paired_line(what, found[part], ""))
        if several:
            lines += [
                line
                for name, task in report["tasks"].items()
                if "score" in task.get("liking", {})
                for line in _liking_lines(f"  {name}", task["liking"])
            ]
        for student, of_student in found.get("students", {}).items():
            lines += _liking_lines(f"  {student}", of_student)
    return lines


def _share_line(what: str, found: Mapping[str, Any]) -> list[str]:
    interval = f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"
    return [what, str(found["n"]), "", "", _percent(found["share"]), interval if found["n"] else "", "0 %"]


def _reward_lines(of: str, found: Mapping[str, Any]) -> list[list[str]]:
    interval = f"{100 * found['accuracy_low']:.1f} to {100 * found['accuracy_high']:.1f}"
    lines = [[f"{of}: chosen preferred", str(found["n"]), "", "", _percent(found["accuracy"]), interval, "50 %"]]
    if of.startswith(" "):
        return lines
    low, high = found["margin_low"], found["margin_high"]
    interval = "" if low is None else f"{low:+.2f} to {high:+.2f}"
    return [*lines, [f"{of}: margin, nats", str(found["n"]), "", "", f"{found['margin']:+.2f}", interval, "0"]]


def _liking_lines(what: str, found: Mapping[str, Any]) -> list[list[str]]:
    columns = sorted(set(found["validation"]))
    of = f"{columns[0]}" if len(columns) == 1 else f"{columns[0]} to {columns[-1]}"
    p = f"{found['p']:.3f}" if found["p"] >= 0.0005 else "< 0.001"
    line = _paired_line(what, found["score"], f"{found['questions']} x {of}")
    return [[*line[:-1], f"0 (p {p if p.startswith('<') else '= ' + p})"]]


def _paired_line(what: str, found: Mapping[str, Any], n: str) -> list[str]:
    return [
        what, n, _percent(found["before"]), _percent(found["after"]), _points(found["difference"]),
        f"{_points(found['low'])} to {_points(found['high'])}", "0",
    ]  # fmt: skip


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
