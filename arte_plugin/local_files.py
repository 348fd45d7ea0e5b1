"""Tables in local files: which paths mean one, and their rows."""

import csv
import json
from pathlib import Path
from typing import Any

from arte_plugin.errors import ConfigError
from arte_plugin.rows import split_lines

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
