"""Arms beside one another: paired comparisons on the same test questions, after stage 8."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from arte_plugin.rows import Result
from arte_plugin.tables import Lines

#: Of the bootstrap and the permutation test.
RESAMPLES = 9999


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
    #: Accuracy of the second less that of the first over all n, in -1..1, with a 95 % interval.
    difference: float
    low: float
    high: float
    #: Two-sided. One seed: McNemar's exact test, binomial on the questions that only one got right. Several: signs of
    #: the questions' differences flipped at random. Not corrected for many tests.
    p: float
    #: What this comparison is for (`SHOWS`); empty for arms that differ in something else.
    shows: str = ""


def compare(evaluated: Sequence[Evaluated], seed: int) -> list[Comparison]:
    """The untouched student (`base`) with every arm, and every other arm with `arte` where it is there.

    With several seeds a question counts by the share of seeds that got it right; `seed` draws the resamples then.
    """
    # Over seeds, by question.
    right: dict[tuple[str, int, str], dict[tuple[str, str], list[bool]]] = {}
    for one in evaluated:
        of_arm = right.setdefault((one.result.student, one.result.shots, one.result.arm), {})
        for question, correct in one.right.items():
            of_arm.setdefault((one.result.task, question), []).append(correct)
    made = []
    for student, shots in dict.fromkeys((student, shots) for student, shots, _ in right):
        arms = [arm for of_student, at, arm in right if (of_student, at) == (student, shots)]
        pairs = [("base", arm) for arm in arms if arm != "base"]
        pairs += [(arm, "arte") for arm in arms if arm not in ("base", "arte")] if "arte" in arms else []
        for first, second in pairs:
            of_first, of_second = right[student, shots, first], right[student, shots, second]
            questions = sorted(of_first.keys() & of_second.keys())
            made.append(
                Comparison(
                    student,
                    shots,
                    first,
                    second,
                    len(questions),
                    **_paired([of_first[key] for key in questions], [of_second[key] for key in questions], seed),
                    shows=SHOWS.get((first, second), ""),
                )
            )
    return made


def _paired(first: Sequence[Sequence[bool]], second: Sequence[Sequence[bool]], seed: int) -> dict[str, Any]:
    """The numbers of a `Comparison`, from each question's outcomes over seeds."""
    n = len(first)
    if all(len(outcomes) == 1 for outcomes in (*first, *second)):
        first_only = sum(one[0] and not other[0] for one, other in zip(first, second, strict=True))
        second_only = sum(other[0] and not one[0] for one, other in zip(first, second, strict=True))
        low, high = _agresti_min(first_only, second_only, n)
        return {
            "first_only": first_only,
            "second_only": second_only,
            "difference": (second_only - first_only) / n if n else 0.0,
            "low": low,
            "high": high,
            "p": _mcnemar(first_only, second_only),
        }
    low, high, p = _resampled([fmean(other) - fmean(one) for one, other in zip(first, second, strict=True)], seed)
    difference = fmean(fmean(outcomes) for outcomes in second) - fmean(fmean(outcomes) for outcomes in first)
    return {"first_only": None, "second_only": None, "difference": difference, "low": low, "high": high, "p": p}


def _mcnemar(first_only: int, second_only: int) -> float:
    from scipy.stats import binomtest

    unlike = first_only + second_only
    return float(binomtest(first_only, unlike, 0.5).pvalue) if unlike else 1.0


def _resampled(differences: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Percentile bootstrap interval of the mean difference over questions, and p of a sign-flip permutation test."""
    import numpy as np
    from scipy.stats import bootstrap, permutation_test

    if not any(differences):
        return 0.0, 0.0, 1.0
    found = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=1000, rng=np.random.default_rng(seed)
    )
    flipped = permutation_test(
        (differences, np.zeros(len(differences))),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high), float(flipped.pvalue)


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
    several = len({row.student for row in comparisons}) > 1
    head = ["shots", *(["student"] if several else []), "first", "second", "shows", "n", "only first", "only second"]
    lines: Lines = [[*head, "difference", "95 % interval", "p"]]
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
