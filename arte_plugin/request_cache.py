"""Every answered request, for good: SQLite, one row a completion, keyed by all that decides the output."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arte_plugin import ranks
from arte_plugin.engines.base import Completion, Request

#: Seconds to wait for another process that is writing.
PATIENCE = 120.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    new_tokens INTEGER NOT NULL
) WITHOUT ROWID
"""


def request_key(model: Mapping[str, Any], request: Request) -> str:
    """SHA-256 of the canonical JSON of everything that decides the output.

    `model` is the model's identity (weights, adapter, tokenizer, precision, attention, engine). The group is left out:
    it decides how a request is batched, not what it asks. A greedy completion does not depend on the seed.
    """
    content = {
        "model": model,
        "prompt": request.prompt,
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "seed": request.seed if request.temperature > 0 else None,
        "stop": request.stop,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class RequestCache:
    """A cache file that several ranks, and several runs, may use at a time."""

    def __init__(self, path: Path, also: Path | None = None, one_machine: bool = True):
        """`also` is another run's cache: what is found there is copied, and nothing in it is changed.

        Without `one_machine` the file is on a shared disk and used from several.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        until = time.monotonic() + PATIENCE
        while not one_machine and not ranks.is_first() and _uses_wal(path) and time.monotonic() < until:
            # A run that began on one machine: only the first rank may touch the file before it is in the other mode.
            time.sleep(0.1)
        # Each call is a transaction of its own; a kill loses at most the batch that is in flight.
        self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        # Faster, but its users share memory (sqlite.org/wal.html). The other way needs a disk that knows POSIX locks.
        self._journal("WAL" if one_machine else "DELETE")
        self._db.execute(f"PRAGMA synchronous={'NORMAL' if one_machine else 'FULL'}")
        self._db.execute(_SCHEMA)
        self._also = (
            sqlite3.connect(f"{also.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)
            if also is not None and also.is_file() and also.resolve() != path.resolve()
            else None
        )

    def _journal(self, mode: str) -> None:
        """Ranks that start together make the file together, and for this one step SQLite does not wait by itself."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._db.execute(f"PRAGMA journal_mode={mode}")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def get(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are there, by key."""
        found = _select(self._db, keys)
        if self._also is not None and len(found) < len(keys):
            there = _select(self._also, [key for key in keys if key not in found])
            if there:
                self.put(there.items())
            found |= there
        return found

    def count(self, keys: Sequence[str]) -> int:
        """How many of `keys` are there."""
        total = 0
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            total += self._db.execute(f"SELECT COUNT(*) FROM completions WHERE key IN ({marks})", some).fetchone()[0]
        return total

    def put(self, completions: Iterable[tuple[str, Completion]]) -> None:
        """Store a batch, whole or not at all; what is there already stays as it is."""
        rows = [(key, c.text, c.finish, c.prompt_tokens, c.new_tokens) for key, c in completions]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        if self._also is not None:
            self._also.close()


def _uses_wal(path: Path) -> bool:
    """By the file's header (sqlite.org/fileformat.html), without opening it."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:19] == b"\x02"
    except OSError:
        return False


def _select(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Completion]:
    found = {}
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        marks = ",".join("?" * len(some))
        rows = db.execute(
            f"SELECT key, text, finish, prompt_tokens, new_tokens FROM completions WHERE key IN ({marks})", some
        )
        found.update({row[0]: Completion(*row[1:]) for row in rows})
    return found
