"""Hashes of all the rows that a run left, to see whether a change of the code leaves them as they were. See README.md.

python benchmarks/same_rows/hashes.py FOLDER                  prints a line a file
python benchmarks/same_rows/hashes.py FOLDER --like FILE      says what differs from such lines; exits 1 if any does
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: What differs from one run to the next of the same code: keys whose names have one of these among their words.
TIMES = frozenset({"time", "date", "seconds", "minutes", "hours", "started", "finished"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the hashes of a folder, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a run's output_dir, or any folder within")
    parser.add_argument("--like", type=Path, metavar="FILE", help="lines that this program has printed")
    parser.add_argument(
        "--place", action="append", default=[], metavar="DIR", help="a folder whose place is no matter, beside this one"
    )
    options = parser.parse_args(arguments)
    found = hashes(options.folder, [*options.place, str(ROOT)])
    if not found:
        print(f"{options.folder} has no rows: neither a *.jsonl nor a results.json", file=sys.stderr)
        return 2
    if options.like is None:
        print(as_text(found), end="")
        return 0
    differences = compared(from_text(options.like.read_text(encoding="utf-8")), found)
    for line in differences:
        print(line)
    print(f"{len(differences)} of {len(found)} files differ" if differences else f"all {len(found)} files are the same")
    return 1 if differences else 0


def hashes(folder: Path, places: Sequence[str] = ()) -> dict[str, str]:
    """By path within `folder`: 16 hexadecimal digits of the SHA-256 of each `*.jsonl`, byte for byte, and of each
    `results.json` without its times (`TIMES`), whatever the order of its keys.

    A model that has no name is told by its path: those that begin with one of `places` are hashed without that.
    """
    found = {}
    for file in folder.rglob("*"):
        if file.suffix == ".jsonl":
            content = file.read_bytes()
        elif file.name == "results.json":
            timeless = without_times(json.loads(file.read_text(encoding="utf-8")))
            content = json.dumps(timeless, sort_keys=True).encode()
        else:
            continue
        for place in places:
            content = content.replace(place.encode(), b"PLACE")
        found[file.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()[:16]
    return dict(sorted(found.items()))


def without_times(value: Any) -> Any:
    """A JSON value without what it took, at every depth."""
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if TIMES.isdisjoint(key.lower().split("_"))}
    if isinstance(value, list):
        return [without_times(one) for one in value]
    return value


def as_text(found: dict[str, str]) -> str:
    """A line a file: the hash, two spaces, the path."""
    return "".join(f"{digest}  {path}\n" for path, digest in found.items())


def from_text(text: str) -> dict[str, str]:
    """Read `as_text`; lines that begin with `#` say where the rows are from."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def compared(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """A line for each file that is not the same, in the order of the stages."""
    said = []
    for path in sorted(before | now):
        if path not in now:
            said.append(f"gone     {path}")
        elif path not in before:
            said.append(f"new      {path}")
        elif before[path] != now[path]:
            said.append(f"differs  {path}")
    return said


if __name__ == "__main__":
    sys.exit(main())
