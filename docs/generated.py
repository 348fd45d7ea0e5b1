"""Pages that are made from the code: written, or with `--check` compared with what is there."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

#: Where pages lie, whoever makes them.
DOCS = Path(__file__).parent


def write_or_check(target: Path, text: str) -> int:
    """Write the page; with `--check` only say, by the exit code too, whether it is stale."""
    if "--check" not in sys.argv[1:]:
        target.write_text(text, encoding="utf-8")
    elif not target.is_file() or target.read_text(encoding="utf-8") != text:
        print(f"{target} is stale: run `make docs`.", file=sys.stderr)
        return 1
    return 0


def fill_or_check(target: Path, parts: Mapping[str, str]) -> int:
    """The same for a page written by hand, in which `<!-- NAME -->` and `<!-- end of NAME -->` stand around parts."""
    page = target.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        assert len(pattern.findall(page)) == 1, name
        page = pattern.sub(lambda _, text=f"{begin}\n\n{part}\n\n{end}": text, page)
    return write_or_check(target, page)
