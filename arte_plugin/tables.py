"""Tables as text, and the one of what each stage made, kept and dropped."""

import re
from collections.abc import Mapping, Sequence

from arte_plugin.manifest import StageRecord

#: A table's lines of cells, the head first.
Lines = list[list[str]]


def stage_table(stages: Mapping[str, StageRecord], order: Sequence[str]) -> str:
    """One line for each kind of row that a stage made; stages that have not run yet are shown as such.

    What a stage did for one arm stands in the manifest as `STAGE/ARM`. `memory` is the most that was allocated on a
    GPU; the column is there where a GPU was used.
    """
    order = [name for stage in order for name in (stage, *(key for key in stages if key.startswith(f"{stage}/")))]
    measured = any(record.memory for record in stages.values())
    head = ["stage", "what", "made", "kept", "dropped", "asked", "from cache", "time"]
    lines = [[*head, *(["memory"] if measured else []), "note"]]
    last = max((i for i, name in enumerate(order) if name in stages), default=-1)
    for i, name in enumerate(order):
        record = stages.get(name)
        if record is None and (name == "rounds" or any(key.startswith(f"{name}/") for key in stages)):
            continue
        if record is None:
            # A run may take its pairs, or its aligned teacher, from elsewhere.
            lines.append([name, "not run" if i < last else "not run yet", *[""] * (len(lines[0]) - 2)])
            continue
        asked = int(record.usage.get("asked", 0))
        requests = int(record.usage.get("requests", 0))
        for row, count in enumerate(record.counts):
            dropped = ", ".join(f"{n} {reason}" for reason, n in count.dropped.items())
            costs = [str(asked), str(requests - asked), duration(record.seconds)]
            if measured:
                costs.append(size(record.memory["allocated"]) if "allocated" in record.memory else "")
            if row > 0:
                costs = [""] * len(costs)
            lines.append(
                [name if row == 0 else "", count.what, str(count.made), str(count.kept), dropped, *costs, count.note]
            )
    return format_table(lines)


#: `12`, `5.0 %`, `< 0.001`, `+1.2 to +3.4`, `3 of 4`, `1m05s`, and the mark of a number that there is not.
_NUMBER = re.compile(r"[<+-]? ?\d[\d.]*( %)?( (to|of) [+-]?\d[\d.]*)?|(\d+h)?(\d+m)?(\d+s)?|[\d.]+ GB|-")


def format_table(lines: Sequence[Sequence[str]]) -> str:
    """Plain text columns, the first line underlined; columns of numbers are set flush right."""
    columns = [[line[i] for line in lines[1:] if line[i]] for i in range(len(lines[0]))]
    right = {i for i, cells in enumerate(columns) if cells and all(_NUMBER.fullmatch(cell) for cell in cells)}
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in shown)


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    head, *rest = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *rest])


def duration(seconds: float) -> str:
    """`75.2` becomes `1m15s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def size(count: float) -> str:
    """Bytes in GB, as in `3.4 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e9:.2f} GB"
