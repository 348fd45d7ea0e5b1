"""Write `docs/stages.md`, the stages of a run; with `--check`, fail when it is stale.

python -m docs.make_stages [--check]

The table comes from the objects that the loop walks over (`arte_plugin/stages/order.py`).
"""

import sys

from arte_plugin.show.tables import markdown_table
from arte_plugin.stages.order import IN_ORDER
from arte_plugin.stages.stage import Stage
from docs.generated import DOCS, write_or_check

HEAD = """\
# Stages

What a run does, in this order. A stage is one object in one file (`arte_plugin/stages/`), from which the loop,
`arte plan`, `arte status` and this page read. `docs/make_stages.py` writes the page (`make docs`), and a test fails
when it is stale. How to add one: the first lines of `arte_plugin/stages/stage.py`.

A stage is skipped when it was done for the same inputs: what it reads of other stages counts by its content, beside the
settings and models that it depends on, and the version of its code. Which of them a run has, its YAML says: no drafts
are made where others are named (`pair.drafts`, `from_run`), and what stands after a slash is asked for by a key.
Folders are those of `OUTPUT_DIR/arte`; the aligned teacher lies in `OUTPUT_DIR` itself.
"""


def main() -> int:
    lines = [["stage", "what it does", "reads", "folder", "leaves there", "version"], *map(_line, IN_ORDER)]
    return write_or_check(DOCS / "stages.md", f"{HEAD}\n{markdown_table(lines)}\n")


def _line(stage: Stage) -> list[str]:
    read = [f"`{name}` of {of}" for of, name in stage.reads.values()]
    left = [f"`{name}`" for name in stage.writes]
    folder = f"`{stage.folder}/`" if stage.folder else ""
    return [f"`{stage.name}`", stage.what, ", ".join(read), folder, ", ".join(left), str(stage.version)]


if __name__ == "__main__":
    sys.exit(main())
