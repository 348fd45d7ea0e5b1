"""Write the figures of `docs/plan.md`; with `--check`, fail when they are stale.

    python -m benchmarks.plan_memory.make_page [--check]

They come from `benchmarks/plan_memory`: `measured.json` and `examples.json`, and the plan that is shown.
"""

import json
import sys
from pathlib import Path
from typing import Any

from arte_plugin.plan.rates import POINTS, size_in_words
from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

FIGURES = Path(__file__).parent


WITHOUT_TRAINING = {
    "weights": "weights",
    "engine": "writing, by the engine of a run",
}


def main() -> int:
    """Fill the page's parts in."""
    [shown] = FIGURES.glob("*.txt")
    parts = {
        "shown": f"```\n$ arte plan yaml_examples/{shown.stem}.yaml\n{shown.read_text(encoding='utf-8').rstrip()}\n```",
        "measured": markdown_table(_measured()),
        "recipes": markdown_table(_recipes()),
        "rates": markdown_table(_rates()),
    }
    return fill_or_check(DOCS / "plan.md", parts)


def _rates() -> list[list[str]]:
    lines = [["engine", "precision", "size", "prompts", "replies", "how it is known"]]
    for (engine, precision), points in POINTS.items():
        for one in points:
            figures = [f"{one.prompts:,.0f}", f"{one.replies:,.0f}"]
            lines.append([f"`{engine}`", precision, size_in_words(one.parameters), *figures, one.source])
    return lines


def _measured() -> list[list[str]]:
    lines = [["what", "precision", "checkpointing", "planned, MiB", "measured, MiB", "planned / measured"]]
    for row in _read("measured.json"):
        figures = [f"{row[name]:,.0f}" for name in ("planned MiB", "measured MiB")]
        lines.append([_what(row), _precision(row), _yes(row.get("checkpointing")), *figures, f"{row['ratio']:.2f}"])
    return lines


def _what(row: dict[str, Any]) -> str:
    if row["kind"] in WITHOUT_TRAINING:
        return WITHOUT_TRAINING[row["kind"]]
    summed = f", {row['accumulation']} steps summed" if row.get("accumulation") else ""
    return f"{row['kind'].upper()}, {'LoRA' if row['adapter'] else 'in full'}{summed}"


def _precision(row: dict[str, Any]) -> str:
    packed = f", NF4{' with double quantisation' if row['double'] else ''}" if row.get("bits") else ""
    return row["dtype"] + packed


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _recipes() -> list[list[str]]:
    lines = [["recipe", "GPUs", "step", "weights", "kept", "in all", "at most"]]
    for row in _read("examples.json"):
        figures = [f"{row[name]:.1f}" for name in ("weights", "kept", "total", "most")]
        lines.append([row["example"], str(row["gpus"]), row["step"], *figures])
    return lines


def _read(name: str) -> Any:
    return json.loads((FIGURES / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
