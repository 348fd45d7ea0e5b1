"""What chance makes of the gaps between best and worst: permutation tests, and gaps on the other half of the questions.

The best of several equal scores lies above the worst of them, so a gap says nothing alone: with four rationales that do
not differ at all, best and worst are 15 points apart on 40 preference questions, and 41 on 6. No model is asked here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

#: Permutations of a test, so that the least p is 0.001.
RESAMPLES = 999
#: Ways to part the preference set in two.
SPLITS = 50
#: Cells in memory at a time.
_CELLS = 2_000_000

#: For each question the rows of its drafts.
Groups = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Tested:
    """A gap as found, as chance has it, and the share of chance's that are as large; in score, 0..1."""

    gap: float
    chance: float
    p: float


@dataclass(frozen=True)
class CrossFitted:
    """What is chosen on one half of the preference set, measured there and on the other half; means over splits."""

    chosen_half: float
    other_half: float
    #: Share of what was chosen whose order is the other way round on the other half; equals count as half.
    reversed: float


def rationale_gap(values: np.ndarray, groups: Groups, rng: np.random.Generator) -> Tested:
    """Best less worst s_r of a question, in the mean over questions with two rationales or more.

    `values` has a row for each draft, a column for each preference question, and what the student made of it, 0..1. If
    a question's rationales do not differ, what came of each preference question may be exchanged among them.
    """
    groups = [rows for rows in groups if len(rows) > 1]
    found = sum(float(np.ptp(values[rows].mean(axis=1))) for rows in groups)
    by_chance = np.zeros(RESAMPLES)
    for size in sorted({len(rows) for rows in groups}):
        block = values[[rows for rows in groups if len(rows) == size]]
        by_chance += _exchanged(block.transpose(0, 2, 1), rng)
    return _tested(found / len(groups), by_chance / len(groups))


def question_gap(values: np.ndarray, groups: Groups, quantile: float, rng: np.random.Generator) -> Tested:
    """Mean s_q of the best share of the questions less that of the worst.

    If the questions' s_q do not differ, what came of a preference question, in the mean over a question's rationales,
    may be exchanged among the questions. Not whole drafts: a question's rationales do alike on one preference question
    more often than others do, and exchanged apart from each other they would make that look like a better question.
    What the rationales themselves are better in is a part of s_q and no chance here.
    """
    of_questions = np.array([values[list(rows)].mean(axis=0) for rows in groups])
    by_chance = np.empty((RESAMPLES, len(of_questions)))
    for i in range(RESAMPLES):
        by_chance[i] = rng.permuted(of_questions, axis=0).mean(axis=1)
    return _tested(float(_quarters(of_questions.mean(axis=1), quantile)), _quarters(by_chance, quantile))


def rationales_cross_fitted(values: np.ndarray, groups: Groups, rng: np.random.Generator) -> CrossFitted | None:
    """Best and worst rationale chosen on half of the preference set; None where no half tells any two apart.

    Ties on the chosen half are no choice; ties for best or for worst are settled by chance.
    """
    halves = _halves(values, rng)
    here, there, turned, n = 0.0, 0.0, 0.0, 0
    for rows in groups:
        if len(rows) < 2:
            continue
        on_chosen, on_other = (half[list(rows)] for half in halves)
        jitter = 1e-9 * rng.random(on_chosen.shape)
        best, worst = (on_chosen + jitter).argmax(axis=0), (on_chosen + jitter).argmin(axis=0)
        split = np.arange(on_chosen.shape[1])
        gap = on_chosen[best, split] - on_chosen[worst, split]
        kept = gap > 1e-6
        other = (on_other[best, split] - on_other[worst, split])[kept]
        here, there, n = here + gap[kept].sum(), there + other.sum(), n + len(other)
        turned += (other < -1e-9).sum() + (np.abs(other) <= 1e-9).sum() / 2
    return CrossFitted(float(here / n), float(there / n), float(turned / n)) if n else None


def questions_cross_fitted(
    values: np.ndarray, groups: Groups, quantile: float, rng: np.random.Generator
) -> CrossFitted | None:
    """The best and the worst share of the questions, chosen likewise."""
    halves = [np.array([half[list(rows)].mean(axis=0) for rows in groups]) for half in _halves(values, rng)]
    share = _share(len(groups), quantile)
    if not share:
        return None
    here, there, turned = [], [], []
    for on_chosen, on_other in zip(halves[0].T, halves[1].T, strict=True):
        order = np.argsort(on_chosen + 1e-9 * rng.random(len(on_chosen)))
        best, worst = order[-share:], order[:share]
        here.append(on_chosen[best].mean() - on_chosen[worst].mean())
        pairs = on_other[best][:, None] - on_other[worst][None, :]
        there.append(pairs.mean())
        turned.append((pairs < -1e-9).mean() + (np.abs(pairs) <= 1e-9).mean() / 2)
    return CrossFitted(float(np.mean(here)), float(np.mean(there)), float(np.mean(turned)))


def _exchanged(block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sums over questions of best less worst, for each resample; `block` is questions × preference questions × drafts.

    All orders of a few drafts are laid out once and looked up, which is many times faster than shuffling.
    """
    questions, asked, drafts = block.shape
    at_a_time = max(1, _CELLS // block.size)
    found = []
    few = drafts <= 5
    if few:
        orders = np.array(list(permutations(range(drafts))))
        laid_out = [np.ascontiguousarray(block[:, :, of_one], dtype=np.float32).ravel() for of_one in orders.T]
        first = (np.arange(questions * asked, dtype=np.int32) * len(orders)).reshape(questions, asked)
    for start in range(0, RESAMPLES, at_a_time):
        count = min(at_a_time, RESAMPLES - start)
        if few:
            drawn = rng.integers(len(orders), size=(count, questions, asked), dtype=np.int32)
            drawn += first
            sums = np.stack([values.take(drawn).sum(axis=2) for values in laid_out])
        else:
            sums = rng.permuted(np.broadcast_to(block, (count, *block.shape)), axis=3).sum(axis=2).transpose(2, 0, 1)
        found.append(np.ptp(sums, axis=0).sum(axis=1, dtype=np.float64) / asked)
    return np.concatenate(found)


def _tested(gap: float, by_chance: np.ndarray) -> Tested:
    # The permutation that changes nothing is one of them. Sums in another order differ in the last digits.
    as_large = 1 + int((by_chance >= gap - 1e-6).sum())
    return Tested(gap, float(by_chance.mean()), as_large / (len(by_chance) + 1))


def _quarters(s_q: np.ndarray, quantile: float) -> np.ndarray:
    """Mean of the best share less mean of the worst, along the last axis."""
    share = _share(s_q.shape[-1], quantile)
    ordered = np.sort(s_q, axis=-1)
    return ordered[..., -share:].mean(axis=-1) - ordered[..., :share].mean(axis=-1)


def _share(questions: int, quantile: float) -> int:
    return max(1, int(questions * quantile)) if questions > 1 else 0


def _halves(values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all drafts on a random half of the preference questions, and on the other half, by split."""
    asked = values.shape[1]
    chosen = rng.permuted(np.tile(np.arange(asked) < asked // 2, (SPLITS, 1)), axis=1).T
    return values @ chosen / (asked // 2), values @ ~chosen / (asked - asked // 2)
