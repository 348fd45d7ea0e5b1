"""What the rounds came to, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from arte_plugin.show.tables import Lines


def round_lines(rounds: Sequence[Mapping[str, Any]]) -> Lines:
    """The rounds as a table."""
    lines: Lines = [["round", "folder", "pairs", "held-out before", "after", "test before", "after"]]
    for row in rounds:
        shares = [row[key] for key in ("held_out_before", "held_out_after", "test_before", "test_after")]
        lines.append(
            [str(row["round"]), row["folder"], str(row["pairs"]), *(f"{100 * share:.1f} %" for share in shares)]
        )
    return lines
