"""What stage 4 tells of its gaps (`stages/gaps.py`), in words and tables."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from arte_plugin.show.tables import Lines


def like_chance(report: Mapping[str, Any]) -> str:
    """A warning where gaps are no more than chance gives; empty where there are none."""
    same = [
        f"{task} ({level} level, p {_p(found[level]['p'])})"
        for task, found in report.items()
        for level in ("question", "rationale")
        if found[level].get("p", 0.0) > 0.05
    ]
    if not same:
        return ""
    named = ", ".join(same[:4]) + (f" and {len(same) - 4} more" if len(same) > 4 else "")
    return (
        f"nothing shows that the student prefers what is chosen: the gaps are no more than chance gives in {named}. "
        "More preference questions (`preference_set.size`) or more drafts (`elicit.questions`) tell more."
    )


def gap_note(report: Mapping[str, Any], level: str) -> str:
    """A level's gap as the stage table has it: of the one task, or how many tasks stand out from chance."""
    told = [found[level] for found in report.values() if "p" in found[level]]
    if not told:
        reasons = {found[level].get("told", "") for found in report.values()}
        return reasons.pop() if len(reasons) == 1 else "chance can't be told"
    if len(told) > 1:
        clear = sum(found["p"] <= 0.05 for found in told)
        gap, by_chance = (100 * fmean(found[key] for found in told) for key in ("gap", "chance"))
        return f"gap {gap:.1f} (chance {by_chance:.1f}), p ≤ 0.05 in {clear} of {len(told)} tasks"
    (found,) = told
    halves = found["halves"]
    other = f", on the other half {100 * halves['other_half']:.1f}" if halves else ""
    return f"gap {100 * found['gap']:.1f} (chance {100 * found['chance']:.1f}, p {_p(found['p'])}){other}"


def gap_lines(report: Mapping[str, Any]) -> Lines:
    """Both levels' gaps of every task, in points."""
    lines: Lines = [["task", "pairs", "", "gap", "chance", "p", "other half", "reversed", "asked"]]
    for task, found in report.items():
        for level in ("question", "rationale"):
            row = found[level]
            cells = [""] * 6
            if "p" in row:
                halves = row["halves"]
                cells = [
                    _points(row["gap"]), _points(row["chance"]), _p(row["p"]),
                    _points(halves["other_half"]) if halves else "-",
                    f"{100 * halves['reversed']:.0f} %" if halves else "-",
                    str(row["preference_questions"]),
                ]  # fmt: skip
            lines.append([task if level == "question" else "", str(row["pairs"]), level, *cells])
    return lines


def technique_lines(report: Mapping[str, Any]) -> Lines:
    """How often each technique was chosen and rejected, over all tasks."""
    lines: Lines = [["technique", "drafts", "mean score", "chosen", "rejected"]]
    of_tasks = [found["techniques"] for found in report.values()]
    for name in dict.fromkeys(name for found in of_tasks for name in found):
        rows = [found[name] for found in of_tasks if name in found]
        drafts = sum(row["drafts"] for row in rows)
        mean = sum(row["drafts"] * row["mean_score"] for row in rows) / drafts
        chosen, rejected = (str(sum(row[side] for row in rows)) for side in ("chosen", "rejected"))
        lines.append([name, str(drafts), f"{100 * mean:.1f}", chosen, rejected])
    return lines


def gap_remarks(report: Mapping[str, Any]) -> list[str]:
    """What is below the tables, each in a line: lengths, ties, and where chance can't be told."""
    remarks = []
    lengths = [found["lengths"] for found in report.values() if found["lengths"]["chosen"] is not None]
    if lengths:
        chosen, rejected = (fmean(row[side] for row in lengths) for side in ("chosen", "rejected"))
        known = [row["correlation_with_score"] for row in lengths if row["correlation_with_score"] is not None]
        correlation = f"; Spearman's correlation of length and score {fmean(known):+.2f}" if known else ""
        remarks.append(f"Chosen rationales have {chosen:.0f} characters, rejected {rejected:.0f}{correlation}.")
    pairs = sum(found["rationale"]["pairs"] for found in report.values())
    best, worst = (sum(found[f"rationale_{end}_tied"] for found in report.values()) for end in ("best", "worst"))
    if best or worst:
        remarks.append(f"Of {pairs} rationale pairs {best} had several best and {worst} several worst; drawn by seed.")
    if without := sum(found["questions_without_a_rationale"] for found in report.values()):
        remarks.append(f"{without} questions lost a rationale; their scores allow for its technique.")
    if chose := sum(found.get("questions_that_chose", 0) for found in report.values()):
        remarks.append(f"{chose} questions had a say in the preference set: gaps and chance are told of the others.")
    reasons = {found[level].get("told", "") for found in report.values() for level in ("question", "rationale")}
    return remarks + [f"{reason[0].upper()}{reason[1:]}." for reason in sorted(reasons - {""})]


def _points(score: float) -> str:
    return f"{100 * score:.1f}"


def _p(p: float) -> str:
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}"
