"""Write the figures on start-up of `docs/scaling.md`; with `--check`, fail when they are stale.

    python -m benchmarks.startup.make_page [--check]

They come from `results.json` beside this.
"""

import json
import sys
from pathlib import Path

from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

FIGURES = Path(__file__).with_name("results.json")


def main() -> int:
    """Fill the page's part in."""
    return fill_or_check(DOCS / "scaling.md", {"startup": markdown_table(_startup())})


def _startup() -> list[list[str]]:
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    seconds, worked = found["median seconds"], found["median CPU seconds"]
    lines = [["what", f"seconds, median of {found['times']}", "of them the processor's"]]
    lines += [
        [name, f"{value:.3f}", f"{worked[name]:.3f}" if name in worked else ""] for name, value in seconds.items()
    ]
    for command in ("--help", "train --help"):
        ratios = []
        for some in (seconds, worked):
            without, with_arte = (some[f"axolotl {command}, {which} ARTE"] for which in ("without", "with"))
            ratios.append(f"{with_arte / without:.2f}")
        lines.append([f"axolotl {command}: with ARTE / without", *ratios])
    return lines


if __name__ == "__main__":
    sys.exit(main())
