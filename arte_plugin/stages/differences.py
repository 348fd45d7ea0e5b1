"""The difference of two arms that were fine-tuned with several seeds, or are tested on several tasks.

Another fine-tuning with another seed would be another student, and another test set other questions; both count as
drawn at random, so an interval is one of the recipe, not of the very checkpoints. The variance has a part of each: that
of the questions' differences within each task, and what the seeds differ in beyond what that accounts for. With three
seeds the latter is known badly, and Student's t with Satterthwaite's degrees of freedom allows for it. A bootstrap of
seeds, then questions, does not: three seeds drawn with replacement spread a third less than the three did, and with
many questions it takes every sixth pair of equal arms for different ones (`benchmarks/comparisons`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Of one arm on one task: fine-tunings × questions, right or not.
Outcomes = np.ndarray


@dataclass(frozen=True)
class Difference:
    """Of the mean over tasks, in -1..1, with a 95 % interval and a two-sided p."""

    difference: float
    low: float
    high: float
    p: float


def difference(first: Sequence[Outcomes], second: Sequence[Outcomes]) -> Difference:
    """The second arm's accuracy less the first's, the mean over tasks, each of which counts the same.

    Both have an array for each task, of the same questions in the same order, and a row for each fine-tuning in all of
    them. An arm of one row is known by that one alone: the untouched student, which no seed changes.
    """
    from scipy.stats import t

    tasks = len(first)
    gaps = [other.mean(axis=0) - one.mean(axis=0) for one, other in zip(first, second, strict=True)]
    of_tasks = [_of_questions(gap) for gap in gaps]
    parts = [(variance / tasks**2, len(gap) - 1) for variance, gap in zip(of_tasks, gaps, strict=True)]
    total = sum(variance for variance, _ in parts)
    for arm in (first, second):
        if len(arm[0]) > 1:
            spread, noise = _of_seeds(arm)
            total += max(spread - noise, 0.0)
            # The whole of it: what is taken off is an estimate too.
            parts.append((spread, len(arm[0]) - 1))
    mean = float(np.mean([gap.mean() for gap in gaps]))
    freedom = total**2 / sum(variance**2 / max(n, 1) for variance, n in parts)
    half = float(t.ppf(0.975, freedom)) * total**0.5
    p = float(2 * t.sf(abs(mean) / total**0.5, freedom))
    return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half), 1.0 if mean == 0 else p)


def _of_questions(gap: np.ndarray) -> float:
    """Variance of a task's mean difference over questions, with half a question added to each of the four cells.

    As in Agresti and Min's interval of one pair of students: differences that are all the same are not known for sure.
    """
    n = len(gap) + 2
    return float((np.sum(gap**2) + 1 - np.sum(gap) ** 2 / n) / n**2)


def _of_seeds(arm: Sequence[Outcomes]) -> tuple[float, float]:
    """Variance of an arm's mean that its seeds' means show, and how much of it is what questions make of each seed."""
    seeds = len(arm[0])
    means = np.mean([of_task.mean(axis=1) for of_task in arm], axis=0)
    noise = 0.0
    for of_task in arm:
        rest: Any = of_task - of_task.mean(axis=0) - of_task.mean(axis=1, keepdims=True) + of_task.mean()
        questions = of_task.shape[1]
        squares = float((rest**2).sum()) / ((seeds - 1) * max(questions - 1, 1))
        noise += squares / (seeds * questions * len(arm) ** 2)
    return float(means.var(ddof=1)) / seeds, noise
