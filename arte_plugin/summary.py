"""What a run shows at its end, and `arte status` shows again."""

import json
from pathlib import Path

from arte_plugin.manifest import Manifest
from arte_plugin.rows import Result
from arte_plugin.stages import STAGES
from arte_plugin.tables import format_table, stage_table


def summary(folder: Path) -> str:
    """The stage table of a run folder and, once they are there, the tables of the preference set and of the results."""
    stages = Manifest(folder / "manifest.json").stages()
    if not stages:
        return f"Nothing has been run in {folder} yet."
    shown = f"\n{folder}\n\n{stage_table(stages, list(STAGES))}\n"
    shown += _preference_set_table(folder)
    if "evaluate" in stages:
        shown += _result_tables(folder / STAGES["evaluate"])
    return shown


def _preference_set_table(folder: Path) -> str:
    from arte_plugin.stages.consistency import preference_set_lines, preference_set_report

    report = preference_set_report(folder)
    return f"\n{format_table(preference_set_lines(report), right=set(range(2, 11)))}\n" if report else ""


def _result_tables(folder: Path) -> str:
    from arte_plugin.stages.compare import Comparison, comparison_lines
    from arte_plugin.stages.evaluate import result_lines

    results = [Result(**row) for row in json.loads((folder / "results.json").read_text(encoding="utf-8"))]
    shown = f"\n{format_table(result_lines(results), right={1, 3, 4, 5, 6})}\n"
    file = folder / "comparisons.json"
    # A run that was evaluated before there were comparisons has none, and is still to be shown.
    if file.is_file():
        comparisons = [Comparison(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
        shown += f"\n{format_table(comparison_lines(comparisons), right={0, 3, 4, 5, 6, 7, 8})}\n"
    return shown
