"""A plan as it is shown at the terminal."""

from collections.abc import Mapping

from arte_plugin.plan.calls import Rates, Work
from arte_plugin.plan.make import Plan
from arte_plugin.plan.memory import GIB, Need
from arte_plugin.tables import Lines, format_table

#: GiB of GPUs that there are.
CARDS = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 180)
#: What CUDA keeps for itself, in GiB, and the share that is lost between the pieces of memory.
CONTEXT, LOST = 0.7, 0.05


def as_text(plan: Plan, rates: Mapping[str, Rates]) -> str:
    """The tables of calls, memory and disk, and what was assumed."""
    parts = [format_table(call_lines(plan.works, rates)), format_table(disk_lines(plan))]
    if plan.needs:
        parts.insert(1, format_table(memory_lines(plan.needs)))
    return "\n\n".join(["", *parts, *plan.missing, closing(plan)]) + "\n"


def call_lines(works: list[Work], rates: Mapping[str, Rates]) -> Lines:
    """A line for each kind of call."""
    lines: Lines = [
        ["stage", "what", "asked", "calls", "prompt tokens", "computed", "new tokens", "at most", "GPU-hours"]
    ]
    for one in works:
        lines.append(
            [one.stage, one.what, one.who, f"{one.calls:,.0f}", *map(_count, (one.asked, one.computed, one.new, one.most)),
             _figure(one.hours(rates[one.who]))]
        )  # fmt: skip
    totals = [_count(sum(getattr(one, key) for one in works)) for key in ("asked", "computed", "new", "most")]
    hours = sum(one.hours(rates[one.who]) for one in works)
    return [*lines, ["all", "", "", f"{sum(one.calls for one in works):,.0f}", *totals, _figure(hours)]]


def memory_lines(needs: list[Need]) -> Lines:
    """A line for each step."""
    lines: Lines = [["step", "model", "weights", "adapter, optimizer, reference", "beside", "in all", "at most", ""]]
    for one in needs:
        figures = (one.weights, one.states, one.usual, one.total, one.most)
        lines.append([one.step, one.model, *(f"{figure / GIB:.1f} GiB" for figure in figures), one.note])
    return lines


def disk_lines(plan: Plan) -> Lines:
    """A line for each large file."""
    lines: Lines = [["on disk", "about"]]
    lines += [[what, weight(size)] for what, size in plan.disk.items() if size >= 1e6]
    return [*lines, ["all", weight(sum(plan.disk.values()))]]


def closing(plan: Plan) -> str:
    """Which GPU will do, in a sentence."""
    if not plan.needs:
        return "No model's size is known, so nothing can be said of memory."
    largest = max(plan.needs, key=lambda one: one.most)
    gib = largest.most / GIB
    card = next((card for card in CARDS if gib * (1 + LOST) + CONTEXT <= card), None)
    which = f"{plan.gpus} GPUs" if plan.gpus > 1 else "one GPU"
    fits = f"Fits {which} with {card} GB" if card else f"Fits no GPU that we know of ({which})"
    return f"{fits}: the largest is {largest.step}, at most {gib:.1f} GiB."


def weight(size: float) -> str:
    """Bytes in words."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.0f} kB"


def _count(tokens: float) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if tokens >= unit:
            return f"{tokens / unit:,.2f} {name}"
    return f"{tokens:,.0f}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
