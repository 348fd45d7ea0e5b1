"""Shares of answers that are no independent ones: those of one draft are alike, and those to one question are."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: A draft, a question, and what came of it.
Cell = tuple[str, str, float]


@dataclass(frozen=True)
class Estimate:
    """A share, 0..1, and its 95 % interval."""

    share: float
    low: float
    high: float


def share(cells: Sequence[Cell]) -> Estimate | None:
    """The mean of `cells`, of drafts that were crossed with questions, be some of them missing; None of none.

    The variance is clustered both ways, with Student's t, as in `stages.liking`.
    """
    return ratio(cells, [(draft, question, 1.0) for draft, question, _ in cells])


def ratio(counted: Sequence[Cell], among: Sequence[Cell]) -> Estimate | None:
    """What is counted in how much it is counted among, of the same cells in the same order; linearised (`liking`)."""
    from scipy.stats import t

    whole = sum(value for _, _, value in among)
    if not whole:
        return None
    found = sum(value for _, _, value in counted) / whole
    rest = [one[2] - found * of[2] for one, of in zip(counted, among, strict=True)]
    by_draft = _sums(zip((draft for draft, _, _ in among), rest, strict=True))
    by_question = _sums(zip((question for _, question, _ in among), rest, strict=True))
    of_drafts, of_questions, both = (_squares(sums) for sums in (by_draft, by_question, rest))
    # Where all are alike, as if one more were unlike.
    least = (1 / (len(rest) + 2)) ** 2 * len(rest) ** 2
    variance = max(of_drafts + of_questions - both, of_drafts, of_questions, least) / whole**2
    half = float(t.ppf(0.975, max(1, min(len(by_draft), len(by_question)) - 1))) * variance**0.5
    return Estimate(found, max(0.0, found - half), min(1.0, found + half))


def _sums(values: Iterable[tuple[str, float]]) -> list[float]:
    found: defaultdict[str, float] = defaultdict(float)
    for name, value in values:
        found[name] += value
    return list(found.values())


def _squares(sums: Sequence[float]) -> float:
    n = len(sums)
    return sum(one**2 for one in sums) * (n / (n - 1) if n > 1 else 1.0)
