"""Which of several processes this is, and waiting for the others through files, never in a collective."""

import os
import time
from collections.abc import Callable

from arte_plugin.errors import StageError

#: Axolotl shows INFO of its own loggers only; under this name ours comes in the same form, and into its debug.log.
LOGGER = "axolotl.arte"


def rank() -> int:
    """This process's number. From the environment: on CPU, Axolotl's own answer can't be relied on."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes the files and talks to the user."""
    return rank() == 0


def wait_until(progress: Callable[[], int], goal: int, timeout: float, what: str) -> None:
    """Wait until `progress()` reaches `goal`; every change starts the `timeout` (seconds) anew.

    Raises `StageError` when nothing has changed for that long: another rank must have died.
    """
    last, since = -1, time.monotonic()
    while (now := progress()) < goal:
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > timeout:
            raise StageError(
                f"Rank {rank()} waited {timeout:.0f} s for {what} ({now} of {goal} there) and nothing changed. "
                "Another rank has died or hangs: look at its log. What is done is kept; start the run again."
            )
        time.sleep(0.2)
