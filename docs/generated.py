"""Pages that are made from the code: written, or with `--check` compared with what is there."""

import sys
from pathlib import Path


def write_or_check(target: Path, text: str) -> int:
    """Write the page; with `--check` only say, by the exit code too, whether it is stale."""
    if "--check" not in sys.argv[1:]:
        target.write_text(text, encoding="utf-8")
    elif not target.is_file() or target.read_text(encoding="utf-8") != text:
        print(f"{target} is stale: run `make docs`.", file=sys.stderr)
        return 1
    return 0
