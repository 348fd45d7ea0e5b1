"""Tables in local files: which paths mean one, and their rows."""

import csv
import functools
import glob
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from arte_plugin.errors import ConfigError
from arte_plugin.rows import split_lines
from arte_plugin.run.manifest import hash_file, hash_of

LOCAL_FORMATS = (".jsonl", ".json", ".csv", ".parquet")


def is_local(path: str) -> bool:
    """Whether a path means a file here, there or not, rather than a data set on the Hub."""
    return path.startswith((".", "/", "~")) or Path(path).suffix in LOCAL_FORMATS or Path(path).expanduser().is_file()


def read_file(path: Path) -> list[Any]:
    """The rows of a JSONL, JSON, CSV or Parquet file. Raises `ConfigError` for one that can't be read."""
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in split_lines(path.read_text(encoding="utf-8")) if line.strip()]
        if path.suffix == ".json":
            return _rows_of_json(path, json.loads(path.read_text(encoding="utf-8")))
        if path.suffix == ".csv":
            # Not by pandas, which would turn `007`, `True` and `NA` into something else.
            with path.open(newline="", encoding="utf-8-sig") as file:
                return list(csv.DictReader(file))
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path).to_pylist()
    except (ValueError, OSError, csv.Error) as error:
        raise ConfigError(f"Can't read {path}: {error}.") from error
    raise ConfigError(f"Can't read {path}: expected one of {', '.join(LOCAL_FORMATS)}.")


def _rows_of_json(path: Path, content: Any) -> list[Any]:
    """A JSON file holds a list of rows, or an object in which exactly one value is one (as Big-Bench-Hard's do)."""
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else None
    if not isinstance(content, list):
        raise ConfigError(f"Can't read {path}: expected a list of rows, or an object with one list of rows in it.")
    return content


def hashes_of_datasets(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """What lies in the local files and folders of Axolotl's `datasets`, one hash for each that has any.

    Where they lie is not in it: an entry's own words say that.
    """
    return [hash_of({"files": hashes}) for entry in entries if (hashes := [_hashed(one) for one in _files(entry)])]


def _files(entry: Mapping[str, Any]) -> Iterator[Path]:
    """The files of one entry of `datasets`: its `path`, a folder's files, and its `data_files`, as Axolotl takes them.

    Of a name on the Hub there are none; `data_files` may be patterns, from here or from the folder.
    """
    path = Path(str(entry.get("path") or ""))
    named = entry.get("data_files") or []
    if isinstance(named, Mapping):
        named = list(named.values())
    patterns = [str(one) for more in ([named] if isinstance(named, str) else named) for one in _listed(more)]
    # A folder's own files are left alone where some are named, which Axolotl looks for from here.
    found = [path] if entry.get("path") and path.exists() and not (path.is_dir() and patterns) else []
    for pattern in patterns:
        found += sorted(Path(one) for one in glob.glob(pattern, recursive=True))
    for one in found:
        inside = sorted(file for file in one.rglob("*") if file.is_file()) if one.is_dir() else [one]
        # What a library leaves beside the data, such as a lock, is none of it.
        yield from (file for file in inside if not file.name.startswith("."))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _hashed(file: Path) -> str:
    state = file.stat()
    return _hash_once(file.resolve(), state.st_size, state.st_mtime_ns, state.st_ino)


@functools.lru_cache(maxsize=4096)
def _hash_once(file: Path, *_state: int) -> str:
    """Once a process for as long as the file is the same: a run asks several times."""
    return hash_file(file)
