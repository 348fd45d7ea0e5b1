"""How often the align check says that a student likes what was written, or not, where there is nothing to it.

    python -m benchmarks.align_check.false_alarms [--runs 2000]

Two teachers whose rationales are, for each draft question, drawn from the same distribution: whatever the check finds
between them is chance. Of `changed` draft questions the second one's rationale is another than the first one's. The
student's answers: each validation question has its own difficulty, each draft question and each rationale its own
effect on the student, and with `by_question` a rationale also suits some validation questions and not others, in a way
that all rationales of one teacher have in common (a teacher that is different, and no better). A reply may be
unreadable. The table goes into docs/align-check.md.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from arte_plugin.rows import wilson
from arte_plugin.show.tables import Lines, format_table
from arte_plugin.stages.liking import Paired, paired, paired_shares, sign_flip_p

FIGURES = Path(__file__).with_name("false_alarms.json")
RUNS = 2000


@dataclass(frozen=True)
class Setting:
    """Sizes of a check, and how much varies, as standard deviations of log-odds."""

    questions: int
    validation: int
    changed: float
    tasks: int = 1
    rationale: float = 0.7
    by_question: float = 0.0
    #: Of the second teacher's rationales: log-odds on top, for how often a real effect is seen.
    better: float = 0.0


SETTINGS = [
    *(Setting(40, 60, changed) for changed in (0.1, 0.3, 1.0)),
    Setting(40, 60, 0.3, by_question=0.5),
    Setting(40, 60, 1.0, by_question=0.5),
    Setting(40, 60, 0.3, tasks=4),
    *(Setting(8, 6, changed, tasks=2) for changed in (0.3, 1.0)),
    Setting(8, 6, 1.0),
    Setting(40, 60, 0.3, better=0.5),
    Setting(40, 60, 1.0, better=0.5),
]


def main() -> None:
    """Write the figures and show the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    found = [{**asdict(one), **rates(one, runs)} for one in SETTINGS]
    FIGURES.write_text(json.dumps({"runs": runs, "settings": found}, indent=2) + "\n")
    print(format_table(lines(found)))


def rates(setting: Setting, runs: int, seed: int = 0) -> dict[str, float]:
    """Of `runs` checks, how many say `liked`, `liked_less`, and have p below 0.05; and those of the two parts.

    `difference` is the mean of what they find, which is what there is to be found.
    """
    rng = np.random.default_rng(seed)
    counts: dict[str, float] = dict.fromkeys(("runs", "liked", "liked_less", "p", "readable", "right_when_readable"), 0)
    difference = 0.0
    for right, p, readable, share in (_checked(setting, rng) for _ in range(runs)):
        counts["runs"] += 1
        difference += right.difference
        counts["liked"] += right.low > 0
        counts["liked_less"] += right.high < 0
        counts["p"] += p < 0.05
        counts["readable"] += readable.low > 0
        counts["right_when_readable"] += share is not None and share.low > 0
    return {**counts, "difference": difference / runs}


def lines(found: list[dict]) -> Lines:
    """As a table, each rate with its 95 % interval."""
    head = ["tasks", "questions", "shown with", "changed", "differs by question", "points better"]
    table: Lines = [[*head, "says liked +", "95 % interval", "says liked -", "p < 0.05"]]
    for row in found:
        low, high = wilson(row["liked"], row["runs"])
        table.append(
            [
                str(row["tasks"]), str(row["questions"]), str(row["validation"]), f"{100 * row['changed']:.0f} %",
                "yes" if row["by_question"] else "", f"{100 * row['difference']:.1f}" if row["better"] else "",
                f"{100 * row['liked'] / row['runs']:.1f} %", f"{100 * low:.1f} to {100 * high:.1f}",
                f"{100 * row['liked_less'] / row['runs']:.1f} %", f"{100 * row['p'] / row['runs']:.1f} %",
            ]
        )  # fmt: skip
    return table


def _checked(setting: Setting, rng: np.random.Generator) -> tuple[Paired, float, Paired, Paired | None]:
    right, both, shares = [], [], []
    for tables in (list(_answers(setting, rng)) for _ in range(setting.tasks)):
        (correct_before, readable_before), (correct_after, readable_after) = tables
        right.append((correct_before, correct_after))
        both.append((readable_before, readable_after))
        shares.append((correct_before, readable_before, correct_after, readable_after))
    return paired(right), sign_flip_p(right, int(rng.integers(2**31))), paired(both), paired_shares(shares)


def _answers(setting: Setting, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Correct and readable, before and after: (draft questions, validation questions) each."""
    rows, columns = setting.questions, setting.validation
    kept = rng.random(rows) >= setting.changed
    difficulty, draft = rng.normal(0, 1, columns), rng.normal(0, 0.5, (rows, 1))
    first: tuple[np.ndarray, np.ndarray] | None = None
    for better in (0.0, setting.better):
        effect = rng.normal(0, setting.rationale, (rows, 1)) + rng.normal(0, setting.by_question, columns) + better
        right = rng.random((rows, columns)) < _share(difficulty + draft + effect)
        readable = rng.random((rows, columns)) < _share(1 + draft + effect)
        tables = (right & readable).astype(float), readable.astype(float)
        if first is not None:
            # Word for word the same: the very same answers.
            tables = tuple(np.where(kept[:, None], old, new) for old, new in zip(first, tables, strict=True))
        first = first or tables
        yield tables


def _share(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


if __name__ == "__main__":
    main()
