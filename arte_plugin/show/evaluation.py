"""What stage 8 found, and the benchmarks beside it, as `arte status` shows it."""

import json
from pathlib import Path

from arte_plugin.rows import Result
from arte_plugin.show.benchmark_table import benchmark_lines, notes
from arte_plugin.show.results import result_lines
from arte_plugin.show.tables import format_table, wrap
from arte_plugin.stages.benchmark_results import read_benchmarks
from arte_plugin.stages.compare import Comparison, comparison_lines


def result_tables(folder: Path) -> str:
    """The tables; `folder` is stage 8's."""
    report = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results = result_lines([Result(**row) for row in report["results"]])
    comparisons = comparison_lines([Comparison(**row) for row in report["comparisons"]])
    shown = f"\n{format_table(results)}\n\n{format_table(comparisons)}\n"
    if benchmarks := read_benchmarks(folder):
        if benchmarks.results:
            shown += f"\n{format_table(benchmark_lines(benchmarks.results))}\n"
        shown += "\n" + "\n".join(wrap(note) for note in notes(benchmarks)) + "\n"
    return shown
