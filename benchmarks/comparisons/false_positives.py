"""How often two arms that do not differ are taken for different ones, by three ways of getting a p over seeds.

    python -m benchmarks.comparisons.false_positives

It leaves what it counted in `results.json`, in some minutes; no model is asked. `make docs` makes the table of
docs/experiments.md of it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import norm

from arte_plugin.stages.differences import difference

FIGURES = Path(__file__).with_name("results.json")

RESAMPLES = 400
SEEDS = 3


def arm(rng: np.random.Generator, chances: np.ndarray, spread: float) -> np.ndarray:
    """Fine-tunings × questions: right or not, with seeds that differ by an SD of `spread`."""
    luck = rng.normal(0, spread, (SEEDS, 1))
    return (rng.random((SEEDS, len(chances))) < np.clip(chances + luck, 0, 1)).astype(float)


def questions_only(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> float:
    """As if the six students were all that there could be: what questions differ in, and nothing else."""
    gap = second.mean(axis=0) - first.mean(axis=0)
    return float(2 * norm.sf(abs(gap.mean()) / (gap.std(ddof=1) / len(gap) ** 0.5)))


def two_level_bootstrap(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> float:
    """Seeds drawn with replacement, then questions."""
    n = first.shape[1]
    questions = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    drawn = np.zeros(RESAMPLES)
    for sign, outcomes in ((-1, first), (1, second)):
        seeds = rng.multinomial(SEEDS, np.full(SEEDS, 1 / SEEDS), RESAMPLES) / SEEDS
        drawn += sign * ((seeds @ outcomes) * questions).sum(axis=1)
    return 2 * min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))


def components(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> float:
    """The plugin's own."""
    return difference([first], [second]).p


def main() -> None:
    """Simulate, and keep how often each way raises a false alarm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=400)
    times = parser.parse_args().times
    ways = {"questions only": questions_only, "two-level bootstrap": two_level_bootstrap, "ours": components}
    rows = []
    for questions in (60, 500, 3000):
        for spread in (0.0, 0.03, 0.05):
            rng = np.random.default_rng(1)
            alarms = np.zeros(len(ways))
            for _ in range(times):
                chances = rng.beta(2, 2, questions)
                first, second = arm(rng, chances, spread), arm(rng, chances, spread)
                alarms += [way(first, second, rng) < 0.05 for way in ways.values()]
            rows.append(
                {"questions": questions, "spread": spread, "alarms": dict(zip(ways, alarms.tolist(), strict=True))}
            )
            print(rows[-1], flush=True)
    found = {"experiments": times, "seeds": SEEDS, "rows": rows}
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
