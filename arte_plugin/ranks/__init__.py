"""Which of several processes this is, and waiting for the others through files, never in a collective."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from arte_plugin.errors import StageError
from arte_plugin.ranks.heartbeat import Heartbeat

#: Axolotl shows INFO of its own loggers only; under this name ours comes in the same form, and into its debug.log.
LOGGER = "axolotl.arte"

_heartbeat: Heartbeat | None = None


def rank() -> int:
    """This process's number. From the environment: on CPU, Axolotl's own answer can't be relied on."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_several_machines() -> bool:
    """Whether some of them run elsewhere (torchrun and accelerate tell how many do here)."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size())) < world_size()


def is_first() -> bool:
    """Whether this process writes the files and talks to the user."""
    return rank() == 0


def watch(folder: Path, timeout: float) -> None:
    """With several ranks: give signs of life in `folder` from now on, and notice who gives none for `timeout` s."""
    global _heartbeat
    if world_size() == 1 or (_heartbeat is not None and _heartbeat.folder == folder):
        return
    if _heartbeat is not None:
        _heartbeat.stop()
    _heartbeat = Heartbeat(folder, rank(), world_size(), timeout)
    _heartbeat.start()


def wait_until(progress: Callable[[], int], goal: int, timeout: float, what: str) -> None:
    """Wait until `progress()` reaches `goal`; every change starts the `timeout` (seconds) anew.

    Raises `StageError` when another rank has died, and when nothing has changed for that long.
    """
    last, since = -1, time.monotonic()
    while (now := progress()) < goal:
        dead = _heartbeat.dead() if _heartbeat else None
        # It may have done its work between the two looks, and ended as it should.
        if dead and (now := progress()) < goal:
            raise StageError(
                f"{dead}, and rank {rank()} waits for {what} ({now} of {goal} there). Look at its log. What is done is "
                "kept; start the run again."
            )
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > timeout:
            raise StageError(
                f"Rank {rank()} waited {timeout:.0f} s for {what} ({now} of {goal} there) and nothing changed. "
                "Another rank has died or hangs: look at its log. What is done is kept; start the run again."
            )
        time.sleep(0.2)
