"""Tables as text, and the one of what each stage made, kept and dropped."""

import re
import shutil
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from arte_plugin.run.manifest import StageRecord

#: A table's lines of cells, the head first.
Lines = list[list[str]]

#: Columns of text that is printed, where the terminal is not wider.
WIDTH = 100


def stage_table(stages: Mapping[str, StageRecord], order: Sequence[str], outdated: Collection[str] = ()) -> str:
    """One line for each kind of row that a stage made; stages that have not run yet are shown as such.

    What was dropped, by reason, and what is to be said of the rows stands below their line: it is as long as it is.
    What a stage did for one arm stands in the manifest as `STAGE/ARM`. `memory` is the most that was allocated on a
    GPU; the column is there where a GPU was used. Of stages that are `outdated`, this is said in place of what they
    found.
    """
    order = [name for stage in order for name in (stage, *(key for key in stages if key.startswith(f"{stage}/")))]
    measured = any(record.memory for record in stages.values())
    head = ["stage", "what", "made", "kept", "asked", "from cache", "time"]
    lines = [[*head, *(["memory"] if measured else [])]]
    below: list[list[str]] = [[]]
    last = max((i for i, name in enumerate(order) if name in stages), default=-1)
    for i, name in enumerate(order):
        record = stages.get(name)
        if record is None and (name == "rounds" or any(key.startswith(f"{name}/") for key in stages)):
            continue
        if record is None:
            # A run may take its pairs, or its aligned teacher, from elsewhere.
            lines.append([name, "not run" if i < last else "not run yet", *[""] * (len(lines[0]) - 2)])
            below.append([])
            continue
        asked = int(record.usage.get("asked", 0))
        requests = int(record.usage.get("requests", 0))
        for row, count in enumerate(record.counts):
            dropped = ", ".join(f"{n}{_TIE}{reason}" for reason, n in count.dropped.items())
            costs = [str(asked), str(requests - asked), duration(record.seconds)]
            if measured:
                costs.append(size(record.memory["allocated"]) if "allocated" in record.memory else "")
            if row > 0:
                costs = [""] * len(costs)
            lines.append([name if row == 0 else "", count.what, str(count.made), str(count.kept), *costs])
            notes = [said for said in (dropped and f"dropped: {dropped}", count.note) if said]
            if name in outdated:
                notes = [_OUTDATED] if row == 0 else []
            below.append(notes)
    widths, rows = _set_rows(lines, text_width())
    indent = " " * (widths[0] + len(_GAP) + 2)
    shown = [line for row, notes in zip(rows, below, strict=True) for line in (*row, *_wrapped(notes, indent))]
    return "\n".join(line.rstrip() for line in (*rows[0], _rule(widths), *shown[len(rows[0]) :]))


def text_width() -> int:
    """Columns that a line of printed text may have: the terminal's, and no fewer than `WIDTH`."""
    return max(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns)


def wrap(text: str, hanging: str = "") -> str:
    """One paragraph in lines no wider than `text_width`, all but the first set in by `hanging`."""
    return textwrap.fill(text, text_width(), subsequent_indent=hanging, **_WHOLE_WORDS)


#: `12`, `2,000`, `1.25 M`, `5.0 %`, `< 0.001`, `+1.2 to +3.4`, `3 of 4`, `1m05s`, `1.2 GB`, and the mark of a number
#: that there is not.
_NUMBER = re.compile(r"[<+-]? ?\d[\d.,]*( %| M| bn)?( (to|of) [+-]?\d[\d.]*)?|(\d+h)?(\d+m)?(\d+s)?|[\d.]+ [kMGT]B|-")

_GAP = "  "

#: Between a number and its word, which stand in one line.
_TIE = "\N{NO-BREAK SPACE}"

#: Below the line of a stage that was made from other files than lie there now.
_OUTDATED = "of an earlier config: made from something else than what lies there now"

#: Names and paths stay in one piece, to be copied.
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def format_table(lines: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Plain text columns, the first line underlined; columns of numbers are set flush right.

    Cells are wrapped between words where the table would be wider than `width` (else `text_width`): those of the head
    first, then words, then numbers such as `1.2 to 3.4`. A table whose words do not fit is wider than that.
    """
    widths, rows = _set_rows(lines, width or text_width())
    return "\n".join(line.rstrip() for line in (*rows[0], _rule(widths), *(line for row in rows[1:] for line in row)))


def _rule(widths: Sequence[int]) -> str:
    return _GAP.join("-" * width for width in widths)


def _set_rows(lines: Sequence[Sequence[str]], width: int) -> tuple[list[int], list[list[str]]]:
    """Widths of the columns, and the lines of text that each row takes."""
    columns = [[line[i] for line in lines] for i in range(len(lines[0]))]
    filled = [[cell for cell in cells[1:] if cell] for cells in columns]
    right = {i for i, cells in enumerate(filled) if cells and all(_NUMBER.fullmatch(cell) for cell in cells)}
    widths = [max(map(len, cells)) for cells in columns]
    words = [max(map(_longest_word, cells)) for cells in columns]
    numbers = [max(map(len, filled[i]), default=0) if i in right else 0 for i in range(len(columns))]
    heads = [max(_longest_word(cells[0]), *map(len, cells[1:]), 0) for cells in columns]
    for least in (heads, [max(pair) for pair in zip(words, numbers, strict=True)], words):
        widths = _narrowed(columns, widths, least, width - len(_GAP) * (len(columns) - 1))
    rows = []
    for line in lines:
        cells = [_in_lines(cell, at_most) for cell, at_most in zip(line, widths, strict=True)]
        rows.append(
            [
                _GAP.join(
                    piece.rjust(w) if i in right else piece.ljust(w)
                    for i, (piece, w) in enumerate(zip(pieces, widths, strict=True))
                )
                for pieces in zip_longest(*cells, fillvalue="")
            ]
        )
    return widths, rows


def _narrowed(columns: Sequence[Sequence[str]], widths: list[int], least: Sequence[int], room: int) -> list[int]:
    """The widest column that can be is made narrower, down to `least`, until all fit into `room` or none can be."""
    widths = list(widths)
    while sum(widths) > room:
        can_be = [i for i, width in enumerate(widths) if width > least[i]]
        if not can_be:
            break
        i = max(can_be, key=lambda column: widths[column])
        # One column less can leave a whole word over to the next line.
        lines = [line for cell in columns[i] for line in _in_lines(cell, widths[i] - 1)]
        widths[i] = max(least[i], *map(len, lines))
    return widths


def _in_lines(cell: str, width: int) -> list[str]:
    indent = cell[: len(cell) - len(cell.lstrip())]
    return textwrap.wrap(cell, width, subsequent_indent=indent, **_WHOLE_WORDS) or [""]


def _longest_word(cell: str) -> int:
    return len(cell) - len(cell.lstrip()) + max(map(len, cell.split()), default=0)


def _wrapped(notes: Iterable[str], indent: str) -> list[str]:
    """Each note in lines of its own, all set in by `indent`, the second and later ones by two more."""
    settings = {"initial_indent": indent, "subsequent_indent": indent + "  ", **_WHOLE_WORDS}
    return [line.replace(_TIE, " ") for note in notes for line in textwrap.wrap(note, text_width(), **settings)]


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
