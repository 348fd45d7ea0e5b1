"""What stage 4 found of the gaps between scores, as `arte status` shows it."""

import json
from pathlib import Path

from arte_plugin.show.gap_lines import gap_lines, gap_remarks, like_chance, technique_lines
from arte_plugin.show.tables import format_table, wrap
from arte_plugin.stages import STAGES


def gap_tables(folder: Path) -> str:
    """The tables of a run folder; empty where there are none."""
    file = folder / STAGES["pair"] / "gaps.json"
    # Early versions wrote none.
    if not file.is_file():
        return ""
    report = json.loads(file.read_text(encoding="utf-8"))
    warning = like_chance(report)
    remarks = gap_remarks(report) + ([f"Warning: {warning}"] if warning else [])
    wrapped = "\n".join(wrap(remark) for remark in remarks)
    tables = [format_table(gap_lines(report)), format_table(technique_lines(report)), wrapped]
    return "".join(f"\n{table}\n" for table in tables if table)
