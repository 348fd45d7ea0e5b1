"""Arms beside one another: paired comparisons on the same test questions, after stage 8."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from arte_plugin.rows import DPO, Result
from arte_plugin.show.tables import Lines
from arte_plugin.stages.differences import difference

#: Of two arms: the second has what is named here, the first has not, and in all else they are the same.
SHOWS = {
    ("base", "unaligned"): "teaching",
    ("unaligned", "arte"): "alignment",
    ("base", "arte"): "teaching and alignment",
}


@dataclass(frozen=True)
class Evaluated:
    """One student on one task at one number of shots: the result, and which questions were answered right."""

    result: Result
    right: Mapping[str, bool]


@dataclass(frozen=True)
class Comparison:
    """Two arms of one student on the same questions of all tasks, at one number of shots."""

    student: str
    shots: int
    first: str
    second: str
    #: Questions that both answered.
    n: int
    #: Questions that only this one got right; None where there are several seeds, of which some got it right.
    first_only: int | None
    second_only: int | None
    #: Accuracy of the second less that of the first, of several tasks their mean, in -1..1, with a 95 % interval.
    difference: float
    low: float
    high: float
    #: Two-sided. One seed and one task: McNemar's exact test, binomial on the questions that only one got right.
    #: Else by Student's t (`differences`). Not corrected for many tests.
    p: float
    #: What this comparison is for (`SHOWS`); empty for arms that differ in something else.
    shows: str = ""
    #: Fine-tunings of the arm that has more of them.
    seeds: int = 1
    tasks: int = 1


def compare(evaluated: Sequence[Evaluated]) -> list[Comparison]:
    """The untouched student (`base`) with every arm, every other arm with `arte` where it is there.

    And each arm's student with what it is after a DPO of its own.
    """
    # By task and seed.
    right: dict[tuple[str, int, str], dict[str, dict[int | None, Mapping[str, bool]]]] = {}
    for one in evaluated:
        of_arm = right.setdefault((one.result.student, one.result.shots, one.result.arm), {})
        of_arm.setdefault(one.result.task, {})[one.result.seed] = one.right
    made = []
    for student, shots in dict.fromkeys((student, shots) for student, shots, _ in right):
        arms = [arm for of_student, at, arm in right if (of_student, at) == (student, shots)]
        pairs = [("base", arm) for arm in arms if arm != "base"]
        others = [arm for arm in arms if arm not in ("base", "arte") and not arm.endswith(DPO)]
        pairs += [(arm, "arte") for arm in others] if "arte" in arms else []
        pairs += [(arm.removesuffix(DPO), arm) for arm in arms if arm.endswith(DPO)]
        for first, second in pairs:
            of_first, of_second = right[student, shots, first], right[student, shots, second]
            tables = [
                _tables(list(of_first[task].values()), list(of_second[task].values()))
                for task in sorted(of_first.keys() & of_second.keys())
            ]
            tables = [(one, other) for one, other in tables if one.size]
            made.append(
                Comparison(
                    student, shots, first, second, **paired(tables), shows=_shows(first, second),
                    seeds=max((len(of) for pair in tables for of in pair), default=1), tasks=len(tables),
                )
            )  # fmt: skip
    return made


def _shows(first: str, second: str) -> str:
    return "the student's own DPO" if second == first + DPO else SHOWS.get((first, second), "")


def _tables(first: Sequence[Mapping[str, bool]], second: Sequence[Mapping[str, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """Seeds × questions of both arms on one task, of the questions that all answered."""
    questions = sorted(set.intersection(*(set(answers) for answers in (*first, *second))))
    one, other = (
        np.array([[answers[question] for question in questions] for answers in arm], dtype=float)
        for arm in (first, second)
    )
    return one, other


def paired(tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """The numbers of a `Comparison`, from both arms' outcomes on each task."""
    n = sum(one.shape[1] for one, _ in tables)
    only: dict[str, int | None] = {"first_only": None, "second_only": None}
    if all(len(of) == 1 for pair in tables for of in pair):
        first_only = sum(int((one > other).sum()) for one, other in tables)
        second_only = sum(int((other > one).sum()) for one, other in tables)
        only = {"first_only": first_only, "second_only": second_only}
        if len(tables) < 2:
            low, high = _agresti_min(first_only, second_only, n)
            told = (second_only - first_only) / n if n else 0.0
            return {
                "n": n,
                **only,
                "difference": told,
                "low": low,
                "high": high,
                "p": _mcnemar(first_only, second_only),
            }
    found = difference([one for one, _ in tables], [other for _, other in tables])
    return {"n": n, **only, **asdict(found)}


def _mcnemar(first_only: int, second_only: int) -> float:
    from scipy.stats import binomtest

    unlike = first_only + second_only
    return float(binomtest(first_only, unlike, 0.5).pvalue) if unlike else 1.0


def _agresti_min(first_only: int, second_only: int, n: int) -> tuple[float, float]:
    """95 % interval of a difference of paired shares: Wald's with half a question added to each of the four cells.

    Agresti and Min (2005), Statistics in Medicine 24: it holds its level at small n, where Wald's own does not.
    """
    b, c, total = first_only + 0.5, second_only + 0.5, n + 2.0
    centre = (c - b) / total
    half = 1.959963984540054 * math.sqrt(b + c - (c - b) ** 2 / total) / total
    return max(-1.0, centre - half), min(1.0, centre + half)


def comparison_lines(comparisons: Sequence[Comparison]) -> Lines:
    """The comparisons as a table; differences are those of the second to the first, in points.

    With one seed, p is about the two students that there are: another seed would make others.
    """
    several = len({row.student for row in comparisons}) > 1
    head = ["shots", *(["student"] if several else []), "first", "second", "shows", "n", "only first", "only second"]
    p_head = "p" if any(row.seeds > 1 for row in comparisons) else "p (these two students)"
    lines: Lines = [[*head, "difference", "95 % interval", p_head]]
    for row in comparisons:
        arms = [row.first, row.second, row.shows]
        only = ["" if count is None else str(count) for count in (row.first_only, row.second_only)]
        p = f"{row.p:.3f}" if row.p >= 0.0005 else "< 0.001"
        lines.append(
            [
                str(row.shots), *([row.student] if several else []), *arms, str(row.n), *only,
                f"{100 * row.difference:+.1f}", f"{100 * row.low:+.1f} to {100 * row.high:+.1f}", p,
            ]
        )  # fmt: skip
    return lines
