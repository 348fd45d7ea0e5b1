"""A command with a limit: what goes on by itself at its next start may be ended at any time."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from arte_plugin.training.child import end_with_parent

#: Seconds for a command to end by itself once it was asked to.
GRACE = 15.0


def run_limited(command: Sequence[str], log: Path, seconds: float | None) -> int | None:
    """Run `command` with its output added to `log`; its exit code, or None when it was ended after `seconds`.

    Nothing of it, nor of what it has started, outlives this call.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=end_with_parent(),
        )  # fmt: skip
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for way in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, way)
        except ProcessLookupError:
            return
        until = time.monotonic() + GRACE
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
