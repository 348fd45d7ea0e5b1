"""Write the table in `docs/signals.md`; with `--check`, fail when it is stale.

    python -m benchmarks.signals.make_page [--check]

It comes from `quickstart.json`, which `correlate.py` leaves.
"""

import json
import sys
from pathlib import Path

from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check


def main() -> int:
    """Fill the page's part in."""
    lines = json.loads(Path(__file__).with_name("quickstart.json").read_text(encoding="utf-8"))
    return fill_or_check(DOCS / "signals.md", {"signals": markdown_table(lines)})


if __name__ == "__main__":
    sys.exit(main())
