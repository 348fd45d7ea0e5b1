"""Would other respondents have chosen the same preference set? Told by disjoint halves of the respondents.

Respondents drawn anew with replacement are largely the same respondents, so a set of coin flips would be chosen again
for two thirds. Two halves share nobody: what they agree on is the questions' doing. Some of it is their difficulty
(what nobody answers is never chosen), so beside the agreement stands that on permuted answers: each question's answers
are dealt anew among the respondents, which leaves its difficulty and takes away what it tells of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

#: Halves of fewer than four respondents choose no better than chance, whatever the questions are.
FEWEST = 8
#: Ways to part the respondents in two, for the answers as they are and for each permutation.
SPLITS = 5
PERMUTATIONS = 49

#: What there is to say where nothing can be told.
UNTOLD: dict[str, Any] = {
    "overlap": None, "chance": None, "p": None, "respondents": 0, "flat": 0, "splits": 0, "permutations": 0,
}  # fmt: skip

#: The columns of a set of this size, from respondents × questions; the keys tell apart equal questions.
Choose = Callable[[np.ndarray, int, np.ndarray], set[int]]


def stability(correct: np.ndarray, chosen: set[int], choose: Choose, seed: int) -> dict[str, Any]:
    """`overlap` is the share of a set that both halves choose, `chance` the same on permuted answers, `p` the share of
    permutations in which it is as large; all None where respondents are too few. `flat` counts the questions of
    `chosen` that all respondents answered alike.

    `correct` is respondents × questions.
    """
    size = len(chosen)
    flat = np.ptp(correct.astype(int), axis=0) == 0
    told = {**UNTOLD, "respondents": len(correct), "flat": int(sum(flat[i] for i in chosen))}
    if len(correct) < FEWEST:
        return told
    rng = np.random.default_rng(seed)
    overlap = _overlap(correct, size, choose, rng)
    by_chance = [_overlap(rng.permuted(correct, axis=0), size, choose, rng) for _ in range(PERMUTATIONS)]
    as_large = 1 + sum(one >= overlap - 1e-9 for one in by_chance)
    return {
        **told, "overlap": overlap, "chance": float(np.mean(by_chance)), "p": as_large / (PERMUTATIONS + 1),
        "splits": SPLITS, "permutations": PERMUTATIONS,
    }  # fmt: skip


def _overlap(correct: np.ndarray, size: int, choose: Choose, rng: np.random.Generator) -> float:
    """Equal questions are told apart at random: by id, a set that says nothing would come out the same each time."""
    respondents, questions = correct.shape
    overlaps = []
    for _ in range(SPLITS):
        order = rng.permutation(respondents)
        halves = order[: respondents // 2], order[respondents // 2 :]
        first, second = (choose(correct[rows], size, rng.permutation(questions)) for rows in halves)
        overlaps.append(len(first & second) / size)
    return float(np.mean(overlaps))
