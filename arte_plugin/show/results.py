"""The accuracy table: one line a task, number of shots and arm."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from arte_plugin.rows import Result, wilson
from arte_plugin.show.tables import Lines


def result_lines(results: Sequence[Result]) -> Lines:
    """The table with 95 % intervals, and the average over tasks where there are several.

    Of several seeds the mean is shown, with the standard deviation over seeds beside it; the interval is that of one
    student with this accuracy, for more seeds do not make more questions.
    """
    several = len({row.student for row in results}) > 1
    seeds = len({row.seed for row in results if row.seed is not None})
    head = ["task", "shots", *(["student"] if several else []), "arm", "n", "accuracy", "95 % interval"]
    lines: Lines = [[*head, *([f"SD of {seeds} seeds"] if seeds > 1 else []), "unparsed"]]
    by_line: dict[tuple[str, int, str, str], list[Result]] = {}
    for row in results:
        by_line.setdefault((row.task, row.shots, row.student, row.arm), []).append(row)
    by_average: dict[tuple[int, str, str], list[list[Result]]] = {}
    for (_, *rest), rows in by_line.items():
        by_average.setdefault(tuple(rest), []).append(rows)  # type: ignore[arg-type]
    shown = [(task, shots, student, arm, [rows]) for (task, shots, student, arm), rows in by_line.items()]
    if len({row.task for row in results}) > 1:
        shown += [("(average)", shots, student, arm, tasks) for (shots, student, arm), tasks in by_average.items()]
    for task, shots, student, arm, of_tasks in shown:
        accuracy, low, high = _average(of_tasks)
        n = sum(rows[0].n for rows in of_tasks)
        asked = sum(row.n for rows in of_tasks for row in rows)
        unparsed = sum(row.unparsed for rows in of_tasks for row in rows)
        lines.append(
            [
                task, str(shots), *([student] if several else []), arm, str(n), f"{100 * accuracy:.1f} %",
                f"{100 * low:.1f} to {100 * high:.1f}",
                *([_spread(of_tasks)] if seeds > 1 else []),
                f"{100 * unparsed / asked:.1f} %" if asked else "",
            ]
        )  # fmt: skip
    return lines


def _average(of_tasks: Sequence[Sequence[Result]]) -> tuple[float, float, float]:
    """The mean over tasks of the mean over seeds, and its interval."""
    means, below, above = [], [], []
    for rows in of_tasks:
        mean = fmean(row.accuracy for row in rows)
        low, high = wilson(fmean(row.correct for row in rows), rows[0].n)
        means.append(mean)
        below.append(mean - low)
        above.append(high - mean)
    # Intervals of independent estimates add up in squares.
    mean, tasks = fmean(means), len(of_tasks)
    return mean, mean - math.hypot(*below) / tasks, mean + math.hypot(*above) / tasks


def _spread(of_tasks: Sequence[Sequence[Result]]) -> str:
    """The standard deviation over seeds, in points; over several tasks, that of each seed's average."""
    averages = [fmean(row.accuracy for row in of_seed) for of_seed in zip(*of_tasks, strict=True)]
    return f"{100 * stdev(averages):.1f}" if len(averages) > 1 else ""
