"""A pair stands so many times as its gap is wide (`pair.repeat`): scaled Bradley-Terry in any trainer.

HelpSteer2-Preference (2410.01257) multiplies a pair's loss by the strength of the preference, 1 to 3.
Rows that stand there so often come to the same loss, up to a factor that all rows share: sum(m · loss) / sum(m) is the
mean over the rows.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from arte_plugin.config.pair import RepeatArgs
from arte_plugin.rows import PreferencePair


def times(pair: PreferencePair, settings: RepeatArgs) -> int:
    """How often a pair stands there: its gap in steps, rounded up, 1 to `settings.most`."""
    # Scores are sums of equal shares: what is above a whole number of steps by less than this is rounding.
    steps = math.ceil((pair.chosen_score - pair.rejected_score) / settings.step - 1e-9)
    return min(settings.most, max(1, steps))


def repeated(pairs: Iterable[PreferencePair], settings: RepeatArgs | None) -> list[PreferencePair]:
    """The pairs, each followed by its copies; a copy has an id of its own, `ID#2`."""
    rows: list[PreferencePair] = []
    for pair in pairs:
        rows.append(pair)
        for copy in range(2, (times(pair, settings) if settings else 1) + 1):
            rows.append(replace(pair, pair_id=f"{pair.pair_id}#{copy}"))
    return rows


def note(pairs: Sequence[PreferencePair], settings: RepeatArgs) -> str:
    """How many pairs stand there how often, for the stage table."""
    counts = sorted(Counter(times(pair, settings) for pair in pairs).items())
    return ", ".join(f"{count} {f'{often} times' if often > 1 else 'once'}" for often, count in counts)
