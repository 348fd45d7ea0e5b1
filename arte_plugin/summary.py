"""What a run shows at its end, and `arte status` shows again."""

import json
from pathlib import Path

from arte_plugin.manifest import Manifest
from arte_plugin.rows import Result
from arte_plugin.stages import STAGES
from arte_plugin.tables import Lines, format_table, stage_table


def summary(folder: Path) -> str:
    """The stage table of a run folder and, once they are there, the accuracies and what they differ by."""
    stages = Manifest(folder / "manifest.json").stages()
    if not stages:
        return f"Nothing has been run in {folder} yet."
    shown = f"\n{folder}\n\n{stage_table(stages, list(STAGES))}\n"
    if "evaluate" in stages:
        results, comparisons = result_tables(folder / STAGES["evaluate"])
        shown += f"\n{format_table(results, right={1, 3, 4, 5, 6})}\n"
        shown += f"\n{format_table(comparisons, right={0, 3, 4, 5, 6, 7, 8})}\n"
    return shown


def result_tables(folder: Path) -> tuple[Lines, Lines]:
    """Accuracies and comparisons, from stage 8's files."""
    from arte_plugin.stages.compare import Comparison, comparison_lines
    from arte_plugin.stages.evaluate import result_lines

    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    comparisons = json.loads((folder / "comparisons.json").read_text(encoding="utf-8"))
    return (
        result_lines([Result(**row) for row in results]),
        comparison_lines([Comparison(**row) for row in comparisons]),
    )
