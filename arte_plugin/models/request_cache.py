"""Every answered request, for good: SQLite, one row an answer, keyed by all that decides it."""

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from arte_plugin import ranks
from arte_plugin.config.arte import ArteArgs
from arte_plugin.engines.base import Completion, Likelihood, Reply, Request
from arte_plugin.language import answers

#: Seconds to wait for another process that is writing.
PATIENCE = 120.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    new_tokens INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS likelihoods (
    key TEXT PRIMARY KEY,
    log_probability REAL NOT NULL,
    tokens INTEGER NOT NULL,
    all_tokens INTEGER NOT NULL
) WITHOUT ROWID;
"""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Table(Generic[Answer]):
    """One kind of answer: its table, whose columns behind the key are the fields of `kind`."""

    name: str
    kind: type[Answer]

    @property
    def columns(self) -> list[str]:
        """The columns behind the key."""
        return [field.name for field in fields(self.kind)]  # type: ignore[arg-type]


COMPLETIONS = Table("completions", Completion)
LIKELIHOODS = Table("likelihoods", Likelihood)


def request_key(model: Mapping[str, Any], request: Request) -> str:
    """SHA-256 of the canonical JSON of everything that decides the output.

    `model` is the model's identity (weights, adapter, tokenizer, precision, attention, engine). The group is left out:
    it decides how a request is batched, not what it asks. A greedy completion does not depend on the seed. Where an
    answer ends the reply, how answers are read decides the output too.
    """
    ends: dict[str, Any] = {}
    if request.answer is not None:
        ends["answer"] = [request.answer, answers.VERSION]
    if request.thought is not None:
        ends["thought"] = asdict(request.thought)
    return _hash({
        **ends,
        "model": model,
        "prompt": request.prompt,
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "seed": request.seed if request.temperature > 0 else None,
        "stop": request.stop,
    })  # fmt: skip


def reply_key(model: Mapping[str, Any], reply: Reply) -> str:
    """Like `request_key`, of a reply whose likelihood is asked for."""
    return _hash({"model": model, "prompt": reply.prompt, "reply": reply.text})


def _hash(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class RequestCache:
    """A cache file that several ranks, and several runs, may use at a time."""

    def __init__(self, path: Path, also: Path | None = None, one_machine: bool = True):
        """`also` is another run's cache: what is found there is copied, and nothing in it is changed.

        Without `one_machine` the file is on a shared disk and used from several.
        """
        self.path = path
        self._also_path = also if also and also.is_file() and also.resolve() != path.resolve() else None
        self._one_machine = one_machine
        self._opened: sqlite3.Connection | None = None
        self._also_opened: sqlite3.Connection | None = None

    @property
    def _db(self) -> sqlite3.Connection:
        """Opened when it is needed, and again after `close`."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    @property
    def _also(self) -> sqlite3.Connection | None:
        if self._also_opened is None and self._also_path is not None:
            self._also_opened = _reader(self._also_path)
        return self._also_opened

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + PATIENCE
        while not self._one_machine and not ranks.is_first() and _uses_wal(self.path) and time.monotonic() < until:
            # A run that began on one machine: only the first rank may touch the file before it is in the other mode.
            time.sleep(0.1)
        # Each call is a transaction of its own; a kill loses at most the batch that is in flight.
        db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        # Faster, but its users share memory (sqlite.org/wal.html). The other way needs a disk that knows POSIX locks.
        _set_journal(db, "WAL" if self._one_machine else "DELETE")
        db.execute(f"PRAGMA synchronous={'NORMAL' if self._one_machine else 'FULL'}")
        db.executescript(_SCHEMA)
        return db

    def get(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are there, by key."""
        return self.get_of(COMPLETIONS, keys)

    def get_of(self, table: Table[Answer], keys: Sequence[str]) -> dict[str, Answer]:
        """The answers of one kind that are there, by key."""
        found = _select(self._db, keys, table)
        if self._also is not None and len(found) < len(keys) and _has(self._also, table):
            there = _select(self._also, [key for key in keys if key not in found], table)
            if there:
                self.put_into(table, there.items())
            found |= there
        return found

    def count(self, keys: Sequence[str], table: Table[Any] = COMPLETIONS) -> int:
        """How many of `keys` are there."""
        total = 0
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            query = f"SELECT COUNT(*) FROM {table.name} WHERE key IN ({','.join('?' * len(some))})"
            total += self._db.execute(query, some).fetchone()[0]
        return total

    def put(self, completions: Iterable[tuple[str, Completion]]) -> None:
        """Store a batch, whole or not at all; what is there already stays as it is."""
        self.put_into(COMPLETIONS, completions)

    def put_into(self, table: Table[Answer], answers: Iterable[tuple[str, Answer]]) -> None:
        """Like `put`, for answers of one kind."""
        rows = [(key, *(getattr(answer, column) for column in table.columns)) for key, answer in answers]
        marks = ",".join("?" * (1 + len(table.columns)))
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(f"INSERT OR IGNORE INTO {table.name} VALUES ({marks})", rows)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; it is opened again when it is needed.

        Whoever closes it last, of all ranks and runs, leaves one file that holds everything: SQLite moves what stands
        in the write-ahead log over and takes the log away.
        """
        for db in (self._opened, self._also_opened):
            if db is not None:
                db.close()
        self._opened = self._also_opened = None


class Buffer:
    """Puts completions into a cache, so many at a time: a transaction for each would keep a GPU waiting."""

    def __init__(self, cache: RequestCache, at_a_time: int):
        self._cache, self._at_a_time = cache, at_a_time
        self._held: list[tuple[str, Completion]] = []

    def add(self, key: str, completion: Completion) -> None:
        """Put in one more."""
        self._held.append((key, completion))
        if len(self._held) >= self._at_a_time:
            self.flush()

    def flush(self) -> None:
        """Put in what is held."""
        if self._held:
            self._cache.put(self._held)
            self._held = []


def cache_file(args: ArteArgs, folder: Path) -> Path:
    """Where the run in `folder` keeps its answers."""
    return Path(args.cache).expanduser() if args.cache else folder / "requests.sqlite"


def is_empty(path: Path) -> bool:
    """Whether no answer is kept in the cache at `path`, which is left as it is."""
    if not path.is_file():
        return True
    with contextlib.closing(_reader(path)) as db:
        tables = [table.name for table in (COMPLETIONS, LIKELIHOODS) if _has(db, table)]
        return not any(db.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in tables)


def _set_journal(db: sqlite3.Connection, mode: str) -> None:
    """Ranks that start together make the file together, and for this one step SQLite does not wait by itself."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            db.execute(f"PRAGMA journal_mode={mode}")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _reader(path: Path) -> sqlite3.Connection:
    """Another run's cache, in which no answer is changed.

    Where it can be written, it is opened so: a read-only user who leaves last can't take away the log that he made.
    """
    writable = os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)
    address = f"{path.absolute().as_uri()}?mode={'rw' if writable else 'ro'}"
    db = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
    db.execute("PRAGMA query_only=1")
    return db


def _uses_wal(path: Path) -> bool:
    """By the file's header (sqlite.org/fileformat.html), without opening it."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:19] == b"\x02"
    except OSError:
        return False


def _select(db: sqlite3.Connection, keys: Sequence[str], table: Table[Answer]) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    columns = ", ".join(table.columns)
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        marks = ",".join("?" * len(some))
        rows = db.execute(f"SELECT key, {columns} FROM {table.name} WHERE key IN ({marks})", some)
        found.update({row[0]: table.kind(*row[1:]) for row in rows})
    return found


def _has(db: sqlite3.Connection, table: Table[Any]) -> bool:
    """Another run's cache may be of a version that did not know the table."""
    query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(db.execute(query, [table.name]).fetchone()[0])
