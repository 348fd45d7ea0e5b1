"""Write the table of `yaml_examples/` in `docs/recipes.md`; with `--check`, fail when it is stale.

python -m docs.make_examples [--check]

It comes from the comments that the YAMLs begin with: `# Hardware: …`, what the example is for, `#   the command`.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

EXAMPLES = DOCS.parent / "yaml_examples"


def main() -> int:
    files = sorted(EXAMPLES.glob("*.yaml"), key=_order)
    lines = [["recipe", "hardware", "what it is for"], *map(_line, files)]
    return fill_or_check(DOCS / "recipes.md", {"examples": markdown_table(lines)})


def header(file: Path) -> tuple[str, str]:
    """The hardware that an example names, and what it is for."""
    lines = file.read_text(encoding="utf-8").splitlines()
    hardware = re.split(r"[.;(]", lines[0].removeprefix("# Hardware: "))[0].strip()
    hardware = "no GPU" if "no GPU" in lines[0] else hardware
    return hardware, " ".join(_purpose(lines[1:])).rstrip(":.")


def _purpose(lines: Sequence[str]) -> list[str]:
    """The lines until the command, which is indented."""
    text = [line.removeprefix("# ") for line in lines]
    command = next(place for place, line in enumerate(text) if line.startswith("  "))
    return text[:command]


def _line(file: Path) -> list[str]:
    return [f"[{file.name}](../yaml_examples/{file.name})", *header(file)]


def _order(file: Path) -> tuple[bool, int, int, str]:
    """The quickstart, what needs no GPU, then by GPUs and their memory."""
    number = re.match(r"(one|\d+) GPUs? with (\d+) GB", header(file)[0])
    size = (1 if number[1] == "one" else int(number[1]), int(number[2])) if number else (0, 0)
    return (file.stem != "quickstart-cpu", *size, file.name)


if __name__ == "__main__":
    sys.exit(main())
