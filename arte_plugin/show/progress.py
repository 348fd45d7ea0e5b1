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


class ProgressLine:
    """A line that appears when work begins; of what needed none before, its rate and time left take no notice."""

    def __init__(self, what: str, total: int):
        self._what, self._total = what, total
        self._passed_over = 0
        self._line: tqdm | None = None

    def pass_over(self, count: int) -> None:
        """Count what is done without work."""
        self._passed_over += count
        # One that is not shown has no figures.
        if self._line is not None and not self._line.disable:
            self._line.initial += count
            self._line.n += count
            self._line.last_print_n += count

    def begin(self) -> None:
        """Show the line from now on."""
        if self._line is None:
            off = None if ranks.is_first() else True
            what, done = f"arte: {self._what}", self._passed_over
            self._line = tqdm(total=self._total, initial=done, desc=what, unit="req", disable=off, leave=False)

    def update(self, count: int) -> None:
        """Count what is done."""
        self.begin()
        assert self._line is not None
        self._line.update(count)

    def close(self) -> None:
        """Take the line away."""
        if self._line is not None:
            self._line.close()
