"""Write the figures of `docs/recipes.md`; with `--check`, fail when they are stale.

    python -m benchmarks.teacher_rate.make_page [--check]

They come from `results.json` beside this.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arte_plugin.rows import wilson
from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Fill the page's part in."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    return fill_or_check(DOCS / "recipes.md", {"sweep": markdown_table(_sweep(rows))})


def _sweep(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = [
        [
            "rate", "epochs", "beta", "`sft`", "steps", "weights moved", "right, held out", "margin, held out",
            "margin, trained", "chosen", "rejected", "rationales changed", "readable",
        ]
    ]  # fmt: skip
    for row in sorted(rows, key=lambda row: (row["epochs"], row["beta"], row["sft"], row["rate"])):
        held_out, trained, said = row["held_out"], row["trained"], row["rationales"]
        lines.append(
            [
                f"{row['rate']:g}", str(row["epochs"]), f"{row['beta']:g}", f"{row['sft']:g}", str(row["steps"]),
                f"{100 * row['update']:.2g} %",
                _share(held_out["right"], held_out["n"]),
                _nats(held_out["margin"]), _nats(trained["margin"]), _nats(held_out["chosen"]),
                _nats(held_out["rejected"]), _share(said["changed"], said["n"]),
                f"{said['before']['readable']} to {said['after']['readable']}",
            ]
        )  # fmt: skip
    return lines


def _nats(mean_and_error: Sequence[float]) -> str:
    """A mean with its 95 % interval."""
    mean, error = mean_and_error
    return f"{mean:+.2f} ± {1.96 * error:.2f}"


def _share(count: int, n: int) -> str:
    low, high = wilson(count, n)
    return f"{count} of {n} ({100 * low:.0f} to {100 * high:.0f} %)"


if __name__ == "__main__":
    sys.exit(main())
