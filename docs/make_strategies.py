"""Write `docs/strategies.md`, strategies and the systems beside ARTE; with `--check`, fail when it is stale.

python -m docs.make_strategies [--check]

The tables come from the dictionaries of the plug points, the systems from `docs/systems/*.md`, in the order of the
numbers that their names begin with.
"""

import inspect
import re
import sys
from pathlib import Path

from arte_plugin.config.plugs import POINTS
from arte_plugin.plugs import Plug
from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, write_or_check

HEAD = """\
# Strategies

ARTE is one way through a house with six doors: at each, a question is asked that other systems answer otherwise. A
strategy is one answer. It is named in the YAML, with its settings where it has any; what is not named is the paper's.
This page is written from the strategies' own files by `docs/make_strategies.py` (`make docs`), and a test fails when it
is stale. Their keys are in [configuration.md](configuration.md); how to write one of your own, in
[extending.md](extending.md).

What a score is made of, and how signals go with the paper's, is in [signals.md](signals.md).

*Costs* is what a strategy asks of models beyond what the run asks without it; `arte plan` has it in calls and tokens.
"""

#: The plug points: where the YAML names their strategies, and the question that they answer.
QUESTIONS = {
    "signals": "What is a draft, or a question, worth to this student?",
    "pairings": "Which preference pairs follow from that?",
    "planners": "What is the teacher asked for next?",
    "operators": "How is it asked, and what rows does the reply make?",
    "selectors": "Which examples stay, and in what form?",
    "diagnostics": "What must a reader know before believing a result?",
}

SYSTEMS = """\
## Systems beside ARTE

What they are in our rows, each with a YAML. How far each was run on the quickstart's models
stands under *How it was checked*.
"""


def main() -> int:
    lines = [["strategy", "what it does", "costs", "settings"], *(line for name in QUESTIONS for line in _point(name))]
    sections = [HEAD, markdown_table(lines) + "\n"]
    if systems := [_system(file) for file in sorted((DOCS / "systems").glob("*.md"))]:
        sections += [SYSTEMS, *systems]
    return write_or_check(DOCS / "strategies.md", "\n".join(sections))


def _point(point: str) -> list[list[str]]:
    """A plug point's part of the table: its question, and a line for each strategy."""
    known, _ = POINTS[point]
    return [[f"**`{point}`**", f"**{QUESTIONS[point]}**", "", ""], *(_line(name, kind) for name, kind in known.items())]


def _line(name: str, kind: type[Plug]) -> list[str]:
    file = Path(inspect.getfile(kind)).relative_to(DOCS.parent).as_posix()
    settings = ", ".join(f"`{key}`" for key in kind.Settings.model_fields)
    return [f"[`{name}`](../{file})", (kind.__doc__ or "").splitlines()[0], kind.costs, settings]


def _system(file: Path) -> str:
    """A system's own page, two levels down; its links are written as from `docs/systems/`."""
    text = re.sub(r"^(?=#)", "##", file.read_text(encoding="utf-8").strip(), flags=re.MULTILINE)
    return text.replace("](../", "](") + "\n"


if __name__ == "__main__":
    sys.exit(main())
