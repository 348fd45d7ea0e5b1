"""Write the figures on memory of `docs/scaling.md`; with `--check`, fail when they are stale.

    python -m benchmarks.rows.make_page [--check]

They come from `measured.json` beside this.
"""

import json
import sys
from pathlib import Path

from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

FIGURES = Path(__file__).with_name("measured.json")


def main() -> int:
    """Fill the page's part in."""
    return fill_or_check(DOCS / "scaling.md", {"memory": markdown_table(_memory())})


def _memory() -> list[list[str]]:
    lines = [["what", "rows", "before", "with the drafts", "peak"]]
    for row in json.loads(FIGURES.read_text(encoding="utf-8")):
        drafts = f"{row['MiB with drafts']:.0f} MiB" if "MiB with drafts" in row else ""
        peaks = [f"{row[name]:.0f} MiB" for name in ("MiB before", "peak MiB")]
        lines.append([row["what"], f"{row['rows']:,}", peaks[0], drafts, peaks[1]])
    return lines


if __name__ == "__main__":
    sys.exit(main())
