"""Write the table of false alarms in `docs/experiments.md`; with `--check`, fail when it is stale.

    python -m benchmarks.comparisons.make_page [--check]

It comes from `results.json`, which `false_positives.py` leaves.
"""

import json
import sys

from arte_plugin.show.tables import markdown_table
from benchmarks.comparisons.false_positives import FIGURES
from docs.generated import DOCS, fill_or_check


def main() -> int:
    """Fill the page's part in."""
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    lines = [["questions", "SD of seeds, points", "questions only", "bootstrap of seeds, then questions", "here"]]
    for row in found["rows"]:
        alarms = (f"{100 * number / found['experiments']:.1f} %" for number in row["alarms"].values())
        lines.append([f"{row['questions']:,}", f"{100 * row['spread']:.0f}", *alarms])
    return fill_or_check(DOCS / "experiments.md", {"comparisons": markdown_table(lines)})


if __name__ == "__main__":
    sys.exit(main())
