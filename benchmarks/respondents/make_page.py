"""Write the tables on drafts as respondents in `docs/preference-set.md`; with `--check`, fail when they are stale.

    python -m benchmarks.respondents.make_page [--check]

They come from `results.json`, which `drafts.py` leaves.
"""

import json
import sys
from pathlib import Path

from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

FIGURES = Path(__file__).with_name("results.json")


def main() -> int:
    """Fill the page's parts in."""
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    simulated = [["respondents", "overlap with the true 40", "scores' correlation with quality", "of a random 40"]]
    for name, (overlap, ours, by_chance, _) in found["simulated"].items():
        simulated.append([name, f"{overlap:.2f}", f"{ours:.3f}", f"{by_chance:.3f}"])
    real = [["task", "30 drafts choose", "the run's respondents chose", "random"]]
    for task, (*correlations, _) in found["on the matrix"].items():
        real.append([task, *(f"{one:.3f}" for one in correlations)])
    parts = {"respondents, simulated": markdown_table(simulated), "respondents, on real probes": markdown_table(real)}
    return fill_or_check(DOCS / "preference-set.md", parts)


if __name__ == "__main__":
    sys.exit(main())
