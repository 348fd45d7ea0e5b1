"""What benchmarks beside stage 8 came to, as it lies in the run folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "benchmarks.json"
TABLE = "benchmarks.md"


@dataclass(frozen=True)
class BenchmarkResult:
    """One student on one task of lm-eval."""

    #: The name in the YAML, and the task of lm-eval: a group or tag stands for several.
    benchmark: str
    task: str
    #: The student's label: its arm, with its name and seed where there are several.
    arm: str
    #: Examples in the prompt: lm-eval's own number.
    shots: int
    #: The task's main metric, and the filter that it was read through (`none` where the task has only one reading).
    metric: str
    filter: str
    higher_is_better: bool
    #: Questions.
    n: int
    value: float
    #: Whether the value is a share of the questions, in 0..1; if not, its unit is the metric's.
    share: bool
    #: lm-eval's standard error, and a 95 % interval: Wilson's for a share. None where lm-eval gives none.
    stderr: float | None
    low: float | None
    high: float | None
    #: lm-eval's version of the task.
    version: str
    #: Everything that lm-eval measured, by `METRIC,FILTER`.
    metrics: dict[str, float]


@dataclass(frozen=True)
class Skipped:
    """A benchmark that could not be asked."""

    benchmark: str
    reason: str


@dataclass(frozen=True)
class Benchmarks:
    """What `benchmarks.json` holds."""

    #: How the students were asked: lm-eval's version, limit, no chat template.
    settings: dict[str, Any]
    results: list[BenchmarkResult]
    skipped: list[Skipped]


def read_benchmarks(folder: Path) -> Benchmarks | None:
    """What the last run left in stage 8's folder, if it asked benchmarks."""
    file = folder / FILE
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    return Benchmarks(
        content["settings"],
        [BenchmarkResult(**row) for row in content["results"]],
        [Skipped(**row) for row in content["skipped"]],
    )
