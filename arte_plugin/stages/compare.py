"""Arms beside one another: paired comparisons on the same test questions, after stage 8."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arte_plugin.rows import Result
from arte_plugin.tables import Lines


@dataclass(frozen=True)
class Evaluated:
    """One student on one task at one number of shots: the result, and which questions were answered right."""

    result: Result
    right: Mapping[str, bool]


@dataclass(frozen=True)
class Comparison:
    """Two students on the same questions of all tasks, at one number of shots."""

    shots: int
    first: str
    second: str
    #: Questions that both answered.
    n: int
    #: Questions that only this one got right.
    first_only: int
    second_only: int
    #: Accuracy of the second less that of the first over all n, in -1..1, with a 95 % interval.
    difference: float
    low: float
    high: float
    #: Two-sided exact McNemar test: binomial, on the questions that only one got right. Not corrected for many tests.
    p: float


def compare(evaluated: Sequence[Evaluated]) -> list[Comparison]:
    """The untouched student (`base`) with every arm, and every other arm with `arte` where it is there."""
    right: dict[tuple[int, str], dict[tuple[str, str], bool]] = {}
    for one in evaluated:
        of_student = right.setdefault((one.result.shots, one.result.arm), {})
        of_student |= {(one.result.task, question): correct for question, correct in one.right.items()}
    students = list(dict.fromkeys(arm for _, arm in right))
    pairs = [("base", arm) for arm in students if arm != "base"]
    pairs += [(arm, "arte") for arm in students if arm not in ("base", "arte")] if "arte" in students else []
    return [
        _comparison(shots, first, second, right[shots, first], right[shots, second])
        for shots in dict.fromkeys(shots for shots, _ in right)
        for first, second in pairs
    ]


def _comparison(
    shots: int, first: str, second: str, one: Mapping[tuple[str, str], bool], other: Mapping[tuple[str, str], bool]
) -> Comparison:
    from scipy.stats import binomtest

    both = one.keys() & other.keys()
    n = len(both)
    first_only = sum(one[key] and not other[key] for key in both)
    second_only = sum(other[key] and not one[key] for key in both)
    unlike = first_only + second_only
    difference = (second_only - first_only) / n if n else 0.0
    low, high = _agresti_min(first_only, second_only, n)
    p = float(binomtest(first_only, unlike, 0.5).pvalue) if unlike else 1.0
    return Comparison(shots, first, second, n, first_only, second_only, difference, low, high, p)


def _agresti_min(first_only: int, second_only: int, n: int) -> tuple[float, float]:
    """95 % interval of a difference of paired shares: Wald's with half a question added to each of the four cells.

    Agresti and Min (2005), Statistics in Medicine 24: it holds its level at small n, where Wald's own does not.
    """
    b, c, total = first_only + 0.5, second_only + 0.5, n + 2.0
    centre = (c - b) / total
    half = 1.959963984540054 * math.sqrt(b + c - (c - b) ** 2 / total) / total
    return max(-1.0, centre - half), min(1.0, centre + half)


def comparison_lines(comparisons: Sequence[Comparison]) -> Lines:
    """The comparisons as a table; differences are those of the second to the first, in points."""
    lines: Lines = [["shots", "first", "second", "n", "only first", "only second", "difference", "95 % interval", "p"]]
    for row in comparisons:
        numbers = [str(row.n), str(row.first_only), str(row.second_only), f"{100 * row.difference:+.1f}"]
        p = f"{row.p:.3f}" if row.p >= 0.0005 else "< 0.001"
        interval = f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
        lines.append([str(row.shots), row.first, row.second, *numbers, interval, p])
    return lines
