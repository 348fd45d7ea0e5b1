"""Drafts as respondents (`preference_set.pilot_drafts`): what they choose, by simulation and on the committed matrix.

    python -m benchmarks.respondents.drafts

It leaves its figures in `results.json`, in some minutes; no model is asked. `make docs` makes the tables of
docs/preference-set.md of them.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from arte_plugin.stages import irt
from arte_plugin.stages.choosing import _top

sys.path.insert(0, str(Path(__file__).parents[1] / "fewer_calls"))
from matrix import load

FIGURES = Path(__file__).with_name("results.json")

QUESTIONS, SIZE, DRAFTS = 100, 40, 80

#: Of drafts: the SD of what they do to a student, on the scale of respondents whose abilities have an SD of 1.
QUALITY = 0.5


def chosen(correct: np.ndarray, size: int, rng: np.random.Generator) -> list[int]:
    """The columns that stage 2 takes, equal ones told apart by chance."""
    return sorted(_top(irt.fit(correct), correct, size, rng.permutation(correct.shape[1])))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's; 0 where one side says nothing."""
    return float(spearmanr(first, second).statistic) if np.ptp(first) and np.ptp(second) else 0.0


def simulated(respondents: int, spread: float, times: int) -> list[float]:
    """A true two-parameter model: the overlap with the most discriminating questions, and what scores are worth."""
    rng = np.random.default_rng(0)
    overlaps, ours, by_chance = [], [], []
    for _ in range(times):
        alpha, beta = np.exp(rng.normal(0, 0.5, QUESTIONS)), rng.normal(0, 1.5, QUESTIONS)

        def answers(ability: np.ndarray, alpha: np.ndarray = alpha, beta: np.ndarray = beta) -> np.ndarray:
            return rng.random((len(ability), QUESTIONS)) < 1 / (1 + np.exp(-alpha * (ability[:, None] - beta)))

        taken = chosen(answers(rng.normal(0, spread, respondents)), SIZE, rng)
        overlaps.append(len(set(taken) & set(np.argsort(-alpha)[:SIZE].tolist())) / SIZE)
        quality = rng.normal(0, QUALITY, DRAFTS)
        probes = answers(quality)
        ours.append(correlation(probes[:, taken].mean(axis=1), quality))
        by_chance.append(correlation(probes[:, rng.permutation(QUESTIONS)[:SIZE]].mean(axis=1), quality))
    error = np.std(np.array(ours) - by_chance) / times**0.5
    return [float(np.mean(overlaps)), float(np.mean(ours)), float(np.mean(by_chance)), float(error)]


def on_the_matrix(pilot: int, times: int) -> dict[str, list[float]]:
    """Ten of 26 real preference questions, and how the scores on them go with those on the other 14.

    The pilot's drafts choose; the correlation is that of the others. `respondents`: by the discriminations that stage 2
    had found when the matrix was made, from the models that were its respondents then.
    """
    by_task = {}
    for task in load():
        rng = np.random.default_rng(0)
        drafts, questions = list(task.question_of), task.preference_ids
        correct = np.array([[task.right(draft, question) for question in questions] for draft in drafts])
        discrimination = np.array([task.discrimination[question] for question in questions])
        found: dict[str, list[float]] = {"pilot": [], "respondents": [], "random": []}
        for _ in range(times):
            order = rng.permutation(len(questions))
            pool, yardstick = order[:26], order[26:]
            rows = rng.permutation(len(drafts))
            pilots, others = rows[:pilot], rows[pilot:]
            sets = {
                "pilot": pool[chosen(correct[np.ix_(pilots, pool)], 10, rng)],
                "respondents": pool[np.argsort(-discrimination[pool] + 1e-9 * rng.random(26))[:10]],
                "random": pool[:10],
            }
            right = correct[others][:, yardstick].mean(axis=1)
            for way, columns in sets.items():
                found[way].append(correlation(correct[others][:, columns].mean(axis=1), right))
        error = np.std(np.array(found["pilot"]) - found["random"]) / times**0.5
        by_task[task.task] = [*(float(np.mean(values)) for values in found.values()), float(error)]
    return by_task


def main() -> None:
    """Simulate, try it on the matrix, and keep both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=200)
    times = parser.parse_args().times
    of = [
        ("4 models", 4, 1.0), ("8 models", 8, 1.0), ("20 models", 20, 1.0),
        ("30 drafts", 30, QUALITY), ("60 drafts", 60, QUALITY), ("100 drafts", 100, QUALITY),
    ]  # fmt: skip
    # Overlap with the true 40; the correlation with quality, and that of a random 40; the error of their difference.
    by_respondents = {name: simulated(n, spread, times) for name, n, spread in of}
    # The correlation where 30 drafts choose, where the run's respondents did, at random; the error of first less last.
    found = {"times": times, "simulated": by_respondents, "on the matrix": on_the_matrix(30, times)}
    print(json.dumps(found, indent=1))
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
