"""Write the figures of `docs/align-check.md`; with `--check`, fail when they are stale.

    python -m benchmarks.align_check.make_page [--check]

They come from `benchmarks/align_check/false_alarms.json`.
"""

import json
import sys

from arte_plugin.show.tables import markdown_table
from benchmarks.align_check.false_alarms import FIGURES, lines
from docs.generated import DOCS, fill_or_check


def main() -> int:
    """Fill the page's parts in."""
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    table = markdown_table(lines(found["settings"]))
    return fill_or_check(DOCS / "align-check.md", {"false alarms": f"{table}\n\nOf {found['runs']:,} checks each."})


if __name__ == "__main__":
    sys.exit(main())
