"""What the user sees while it runs: one live line, and none of it in a log file or on a rank other than 0."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from arte_plugin import ranks


@contextmanager
def progress_line(what: str, total: int, done: int = 0) -> Iterator[tqdm]:
    """A live line with done/total, rate and time left; shown on a terminal only, and only while there is work."""
    off = True if not ranks.is_first() or done >= total else None
    with tqdm(total=total, initial=done, desc=f"arte: {what}", unit="req", disable=off, leave=False) as line:
        yield line
