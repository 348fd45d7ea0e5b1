"""Figures as cells of a diagnostic's table: shares in per cent, differences in points, intervals of 95 %."""

from collections import Counter
from collections.abc import Sequence

from arte_plugin.language import answers
from arte_plugin.language.answer_types import AnswerType
from arte_plugin.rows import wilson


def percent(share: float | None) -> str:
    """`0.431` becomes `43.1 %`."""
    return "-" if share is None else f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """`0.031` becomes `+3.1`."""
    return f"{100 * difference:+.1f}"


def between(low: float, high: float) -> str:
    """An interval of a share, in per cent: `26.7 to 81.1`."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def points_between(low: float, high: float) -> str:
    """An interval of a difference, in points: `-1.2 to +3.4`."""
    return f"{points(low)} to {points(high)}"


def wilson_between(part: float, whole: int) -> str:
    """The Wilson interval of a share; empty for none of none."""
    return between(*wilson(part, whole)) if whole else ""


def p_value(p: float) -> str:
    """To three places."""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"


def most_frequent(values: Sequence[str], kind: AnswerType) -> float | None:
    """The share of the most frequent answer, however it is written: what one answer to all is right for."""
    alike: Counter[str] = Counter()
    for value, count in Counter(values).items():
        alike[next((one for one in alike if answers.same(one, value, kind)), value)] += count
    return max(alike.values()) / len(values) if values else None
