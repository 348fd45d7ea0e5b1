"""The table of benchmarks, and what has to be said below it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from arte_plugin.show.tables import Lines
from arte_plugin.stages.benchmark_results import BenchmarkResult, Benchmarks


def benchmark_lines(results: Sequence[BenchmarkResult]) -> Lines:
    """The table: a line for each benchmark and arm, and the average where there are several benchmarks.

    A group of tasks counts as one benchmark, by the mean of its tasks.
    """
    lines: Lines = [["benchmark", "shots", "arm", "metric", "n", "value", "95 % interval"]]
    by_name: dict[str, dict[str, list[BenchmarkResult]]] = {}
    for row in results:
        by_name.setdefault(row.benchmark, {}).setdefault(row.arm, []).append(row)
    arms = list(dict.fromkeys(row.arm for row in results))
    means: dict[str, list[_Mean]] = {arm: [] for arm in arms}
    for name, of_arm in by_name.items():
        for arm, rows in of_arm.items():
            mean = as_one(rows)
            lines.append([name, _one(rows, "shots"), arm, named_metric(rows), *numbers(mean)])
            # The average is over the same benchmarks for every arm.
            if mean.share and len(of_arm) == len(arms):
                means[arm].append(mean)
    for arm in arms:
        if len(means[arm]) > 1:
            lines.append(["(average)", "", arm, "", *numbers(_mean(means[arm]))])
    return lines


def notes(made: Benchmarks) -> list[str]:
    """What has to be said below the table: how it was asked, and what was skipped."""
    settings = made.settings
    how = f"lm-eval {settings['lm_eval']} in its standard form, no chat template"
    limit = f"; the first {settings['limit']} questions of each task" if settings["limit"] else ""
    return [f"benchmarks: {how}{limit}", *(f"{one.benchmark} skipped: {one.reason}" for one in made.skipped)]


@dataclass(frozen=True)
class _Mean:
    value: float
    low: float | None
    high: float | None
    n: int
    share: bool


def _mean(parts: Sequence[_Mean]) -> _Mean:
    """The mean of independent estimates, whose intervals add up in squares."""
    value, n = sum(part.value for part in parts) / len(parts), sum(part.n for part in parts)
    below = [part.value - part.low for part in parts if part.low is not None]
    above = [part.high - part.value for part in parts if part.high is not None]
    low = high = None
    if len(below) == len(above) == len(parts):
        low, high = value - math.hypot(*below) / len(parts), value + math.hypot(*above) / len(parts)
    return _Mean(value, low, high, n, all(part.share for part in parts))


def as_one(rows: Sequence[BenchmarkResult]) -> _Mean:
    """A benchmark as one figure: the mean of its tasks."""
    return _mean([_Mean(row.value, row.low, row.high, row.n, row.share) for row in rows])


def numbers(mean: _Mean) -> list[str]:
    """Questions, value and interval as they are shown."""
    scale, form, unit = (100, ".1f", " %") if mean.share else (1, ".3f", "")
    interval = ""
    if mean.low is not None and mean.high is not None:
        interval = f"{scale * mean.low:{form}} to {scale * mean.high:{form}}"
    return [str(mean.n), f"{scale * mean.value:{form}}{unit}", interval]


def named_metric(rows: Sequence[BenchmarkResult]) -> str:
    """The main metric as it is shown."""
    metric, reading = _one(rows, "metric"), _one(rows, "filter")
    shown = metric if reading == "none" else f"{metric} ({reading})"
    return shown if all(row.higher_is_better for row in rows) else f"{shown}, less is better"


def _one(rows: Sequence[BenchmarkResult], field: str) -> str:
    """What the tasks of a benchmark have in common."""
    found = {str(getattr(row, field)) for row in rows}
    return found.pop() if len(found) == 1 else "several"
