"""Are chosen texts longer than rejected ones? What DPO would then teach is length, whatever the student likes.

DPO's reward is a sum over tokens, so a length that goes along with the preference is learnt first and overshoots
("Iterative Length-Regularized DPO", "LN-DPO", 2407.15229). Rationales of several techniques differ in length by design.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import ClassVar

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.diagnostics.cells import p_value, percent, wilson_between
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence, Lines, NoSettings
from arte_plugin.rows import PreferencePair, Result


class Length:
    """Characters of chosen and rejected texts, pair by pair."""

    Settings: ClassVar[type[Block]] = NoSettings
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing"
    title: ClassVar[str] = "Length of what is chosen and rejected, in characters"

    def __init__(self, settings: NoSettings):
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """It asks nobody."""
        return ()

    def table(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], results: Sequence[Result], asking: Asking
    ) -> Lines:
        """A line for each task and level; the interval of the mean difference is Student's, p that of the sign test.

        Copies of a pair count once, and a draft of several pairs in the first of them only: others would not be
        independent.
        """
        lines = [
            ["task", "level", "pairs", "chosen", "rejected", "difference", "95 % interval", "chosen is longer",
             "95 % interval", "by chance", "p"]
        ]  # fmt: skip
        for task in tasks:
            pairs = evidence[task.name].pairs
            for level in dict.fromkeys(pair.level for pair in pairs):
                lines.append([task.name, level, *_cells(apart([pair for pair in pairs if pair.level == level]))])
        return lines


def apart(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """Pairs of which no two share what is chosen or what is rejected, the first ones first."""
    seen: set[str] = set()
    kept = []
    for pair in pairs:
        ids = {pair.chosen_id, pair.rejected_id}
        if not ids & seen:
            seen |= ids
            kept.append(pair)
    return kept


def _cells(pairs: Sequence[PreferencePair]) -> list[str]:
    from scipy.stats import binomtest, t

    lengths = [(len(pair.chosen), len(pair.rejected)) for pair in pairs]
    differences = [chosen - rejected for chosen, rejected in lengths]
    mean, n = fmean(differences), len(differences)
    interval = ""
    if n > 1:
        half = float(t.ppf(0.975, n - 1)) * stdev(differences) / n**0.5
        interval = f"{mean - half:+.1f} to {mean + half:+.1f}"
    longer, unlike = sum(one > 0 for one in differences), sum(one != 0 for one in differences)
    p = float(binomtest(longer, unlike, 0.5).pvalue) if unlike else 1.0
    return [
        str(n), *(f"{fmean(of_side):.1f}" for of_side in zip(*lengths, strict=True)), f"{mean:+.1f}", interval,
        f"{percent(longer / unlike)} of {unlike}" if unlike else "all the same", wilson_between(longer, unlike), "50 %",
        p_value(p),
    ]  # fmt: skip
