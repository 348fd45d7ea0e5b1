"""Does a student do better with what the aligned teacher writes? Paired differences with intervals, and p.

Draft questions and validation questions are crossed: every draft question's rationale, as it was before and as it is
after the alignment, is shown with every validation question. Answers to one validation question are alike, and answers
behind one rationale are too, so neither are 40 x 60 answers 2,400 independent ones nor is it enough to resample one of
the two. Intervals therefore come from a variance that is clustered both ways (Cameron, Gelbach and Miller, 2011,
Journal of Business and Economic Statistics 29), with Student's t for as many degrees of freedom as the fewer has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

#: Of the sign-flip test, where there are too many questions to go through all flips.
FLIPS = 9999
#: Up to so many draft questions, all flips are gone through.
ALL_FLIPS = 12

#: (draft questions, validation questions), values in 0..1: of one task.
Table = np.ndarray


@dataclass(frozen=True)
class Paired:
    """A mean before and after, 0..1 each, their difference and its 95 % interval."""

    before: float
    after: float
    difference: float
    low: float
    high: float

    def possible(self) -> "Paired":
        """With an interval that keeps to what can be: `before` falls by itself at most, and rises by the rest."""
        return replace(self, low=max(self.low, -self.before), high=min(self.high, 1 - self.before))


def paired(tasks: Sequence[tuple[Table, Table]]) -> Paired:
    """The mean over tasks of each one's mean difference; `tasks` hold the table before and the table after."""
    variances = [_variance(after - before) for before, after in tasks]
    return _over_tasks([(before.mean(), after.mean()) for before, after in tasks], variances)


def paired_shares(tasks: Sequence[tuple[Table, Table, Table, Table]]) -> Paired | None:
    """The same of a share among some: `tasks` hold counted and among, before; counted and among, after.

    None where a task has nothing to be counted among. The interval is of the shares linearised, as is usual for ratios.
    """
    if not all(among_before.any() and among_after.any() for _, among_before, _, among_after in tasks):
        return None
    means, variances = [], []
    for before, among_before, after, among_after in tasks:
        shares = [(before.sum() / among_before.sum(), before, among_before),
                  (after.sum() / among_after.sum(), after, among_after)]  # fmt: skip
        first, second = ((counted - share * among) / among.mean() for share, counted, among in shares)
        variances.append(_variance(second - first))
        means.append((shares[0][0], shares[1][0]))
    return _over_tasks(means, variances)


def sign_flip_p(tasks: Sequence[tuple[Table, Table]], seed: int) -> float:
    """Two-sided p of no difference: signs of the draft questions' differences flipped, all ways or at random.

    Exact where, but for chance, either teacher could have written either rationale. One that was written again word for
    word has no say.
    """
    weights = np.concatenate([(after - before).mean(axis=1) / len(before) for before, after in tasks])
    weights = weights[np.abs(weights) > 1e-12]
    if not len(weights):
        return 1.0
    # Equal sums must not differ by their rounding.
    found = abs(weights.sum()) * (1 - 1e-9)
    if len(weights) <= ALL_FLIPS:
        signs = 1 - 2 * ((np.arange(2 ** len(weights))[:, None] >> np.arange(len(weights))) & 1)
        return float((np.abs(signs @ weights) >= found).mean())
    rng, as_extreme = np.random.default_rng(seed), 0
    for start in range(0, FLIPS, 1000):
        signs = 1.0 - 2.0 * rng.integers(0, 2, (min(1000, FLIPS - start), len(weights)))
        as_extreme += int((np.abs(signs @ weights) >= found).sum())
    return (as_extreme + 1) / (FLIPS + 1)


def _variance(difference: Table) -> tuple[float, int]:
    """The variance of the mean of a table, clustered by row and by column, and its degrees of freedom."""
    rows, columns = difference.shape
    centred = difference - difference.mean()
    by_row, by_column = centred.sum(axis=1), centred.sum(axis=0)
    cells = rows * columns
    of_rows = (by_row**2).sum() * _correction(rows) / cells**2
    of_columns = (by_column**2).sum() * _correction(columns) / cells**2
    both = (centred**2).sum() * _correction(cells) / cells**2
    # Differences that all come out as 0 are not known to the last digit: as if one pair of answers differed each way.
    least = 1 / (cells + 2) ** 2
    variance = max(of_rows + of_columns - both, of_rows, of_columns, least)
    # A rationale that is the same before and after tells nothing of how much others vary. Where a tenth of 40 changed,
    # one of all rows' degrees of freedom would hold in 85 of 100 runs, this one in 95 to 97.
    telling = int((np.abs(difference).sum(axis=1) > 0).sum()) or rows
    return float(variance), max(1, min(telling, columns) - 1)


def _correction(clusters: int) -> float:
    return clusters / (clusters - 1) if clusters > 1 else 1.0


def _over_tasks(means: Sequence[tuple[float, float]], variances: Sequence[tuple[float, int]]) -> Paired:
    from scipy.stats import t

    before, after = np.mean(means, axis=0)
    # Welch and Satterthwaite's degrees of freedom for a sum.
    total = sum(variance for variance, _ in variances)
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in variances)
    half = float(t.ppf(0.975, freedom)) * total**0.5 / len(means)
    difference = float(after - before)
    return Paired(float(before), float(after), difference, difference - half, difference + half)
