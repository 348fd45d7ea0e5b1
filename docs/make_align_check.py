"""Write the figures of `docs/align-check.md`; with `--check`, fail when they are stale.

    python docs/make_align_check.py [--check]

They come from `benchmarks/align_check/false_alarms.json`.
"""

import json
import sys
from pathlib import Path

from generated import fill_or_check

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "align-check.md"


def main() -> int:
    """Fill the page's parts in."""
    sys.path.insert(0, str(ROOT))
    from arte_plugin.show.tables import markdown_table
    from benchmarks.align_check.false_alarms import FIGURES, lines

    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    table = markdown_table(lines(found["settings"]))
    return fill_or_check(TARGET, {"false alarms": f"{table}\n\nOf {found['runs']:,} checks each."})


if __name__ == "__main__":
    sys.exit(main())
