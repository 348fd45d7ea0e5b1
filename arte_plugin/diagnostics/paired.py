"""Two outcomes of each question, before and after: what became of them, with the interval and the test of `compare`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arte_plugin.diagnostics.cells import p_value, percent, points, points_between


@dataclass(frozen=True)
class Change:
    """Shares before and after of the same `n`, 0..1, their difference with a 95 % interval, and a two-sided p."""

    n: int
    before: float
    after: float
    low: float
    high: float
    p: float
    #: Counted only before, and only after; None over several tasks.
    lost: int | None = None
    gained: int | None = None

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before

    def cells(self) -> list[str]:
        """Before, after, difference, interval, p."""
        return [
            percent(self.before), percent(self.after), points(self.difference), points_between(self.low, self.high),
            p_value(self.p),
        ]  # fmt: skip


def change(of_tasks: Sequence[Sequence[tuple[bool, bool]]]) -> Change | None:
    """What became of questions that are each one (before, after), by task; None where there are none.

    Of one task: McNemar's exact test, and the interval of Agresti and Min; over several, the mean of their means
    (`stages.differences`).
    """
    import numpy as np

    from arte_plugin.stages.compare import paired

    tables = [np.array(rows, dtype=float).T for rows in of_tasks if rows]
    if not tables:
        return None
    found: Mapping[str, Any] = paired([(before[None], after[None]) for before, after in tables])
    before, after = (float(np.mean([table[side].mean() for table in tables])) for side in (0, 1))
    several = len(tables) > 1
    return Change(
        found["n"], before, after, found["low"], found["high"], found["p"],
        None if several else found["first_only"], None if several else found["second_only"],
    )  # fmt: skip
