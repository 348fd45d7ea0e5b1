"""Errors for the person at the terminal: what was found, where, and what to do."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from arte_plugin import last_word


class ArteError(Exception):
    """Something the user can put right. The message is all that is shown; no traceback."""


class ConfigError(ArteError):
    """The YAML, or a file that it names, is not as it must be."""


class DataError(ArteError):
    """Questions or rows that can't be used: missing columns, too few, overlapping splits."""


class TeacherError(ArteError):
    """The teacher wrote nothing that could be used."""


class ServerError(ArteError):
    """A server that generates can't be started or reached, or refuses what it is asked."""


class StageError(ArteError):
    """A stage failed, or was asked for before the stages that it needs."""


@contextmanager
def shown_errors() -> Iterator[None]:
    """End the process with one clear message, without a traceback, when an `ArteError` comes up inside Axolotl."""
    try:
        yield
    except ArteError as error:
        said = f"\narte: {error}\n"
        print(said, end="", file=sys.stderr, flush=True)
        last_word.repeat_below_launcher(said)
        last_word.is_said()
        raise SystemExit(1) from None


def any_of(names: Sequence[str]) -> str:
    """Names as a message offers them: "a, b or c"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
