"""What a run shows at its end, and `arte status` shows again."""

import json
from pathlib import Path

from arte_plugin.manifest import Manifest
from arte_plugin.rows import Result
from arte_plugin.stages import STAGES
from arte_plugin.tables import stage_table


def summary(folder: Path) -> str:
    """The stage table of a run folder and, once it is there, the accuracy table."""
    from arte_plugin.stages.evaluate import table

    stages = Manifest(folder / "manifest.json").stages()
    if not stages:
        return f"Nothing has been run in {folder} yet."
    shown = f"\n{folder}\n\n{stage_table(stages, list(STAGES))}\n"
    if "evaluate" in stages:
        rows = json.loads((folder / STAGES["evaluate"] / "results.json").read_text(encoding="utf-8"))
        shown += f"\n{table([Result(**row) for row in rows])}\n"
    return shown
