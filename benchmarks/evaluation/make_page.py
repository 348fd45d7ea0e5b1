"""Write the figures on evaluation's speed in `docs/experiments.md`; with `--check`, fail when they are stale.

    python -m benchmarks.evaluation.make_page [--check]

They come from `benchmarks/evaluation/results/`.
"""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

RESULTS = Path(__file__).parent / "results"

WORKS = {"demo": "the quickstart's test questions, 0 and 3 shots", "choice": "multiple choice, 5 examples, 6 answers"}


def main() -> int:
    """Fill the page's part in."""
    machines = "\n\n".join(map(_machine, sorted(RESULTS.glob("*.json"))))
    return fill_or_check(DOCS / "experiments.md", {"evaluation": machines})


def _machine(file: Path) -> str:
    found = json.loads(file.read_text(encoding="utf-8"))
    machine, settings = found["machine"], found["settings"]
    rows = [["work", "questions", "lm-eval's own model", "our engine", "ratio", "answers"]]
    for name, title in WORKS.items():
        work = found["works"][name]
        theirs, ours = work["seconds"]["hflm"], work["seconds"]["arte"]
        ratios = [one / other for one, other in zip(theirs, ours, strict=True)]
        rows.append([title, str(work["questions"]), _seconds(theirs), _seconds(ours),
                     f"{work['ratio']:.1f} × ({min(ratios):.1f} to {max(ratios):.1f})", _answers(work)])  # fmt: skip
    where = f"{machine['cpu']}, {machine['cores']} cores, {settings['threads']} threads, float32; {settings['model']}"
    return (
        f"{where}; lm-eval {settings['lm_eval']} with\nbatches of {settings['padded']}; medians of {settings['turns']} "
        f"turns, with loading, and the least and the most of the turns' ratios:\n\n{markdown_table(rows)}"
    )


def _seconds(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.0f} s"


def _answers(work: Mapping[str, Any]) -> str:
    if "other_outcomes" in work:
        return f"{work['other_outcomes']} judged otherwise"
    return f"log-likelihoods {work['largest_difference']:.0e} apart at most"


if __name__ == "__main__":
    sys.exit(main())
