"""The last thing on the screen is ours: our tables or our error, not what other libraries print on the way out."""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

#: Waits until the launcher is gone, says the text and takes the mark away. Its standard input is the text.
_REPEAT = """
import os, select, sys
launcher, mark, text = int(sys.argv[1]), sys.argv[2], sys.stdin.buffer.read()
gone = select.poll()
gone.register(launcher, select.POLLIN)
if gone.poll(120_000):
    os.write(2, text)
os.unlink(mark)
"""


class _Silence:
    """Ends the process's standard error when it is itself collected."""

    def __init__(self) -> None:
        self._nowhere = os.open(os.devnull, os.O_WRONLY)

    def __del__(self, dup2=os.dup2) -> None:
        dup2(self._nowhere, 2)


_silence: _Silence | None = None


def is_said() -> None:
    """Everything that matters is written, or will be by exit functions and threads, which are all still heard.

    Python takes modules apart behind them, this one too. What comes then is for developers: triton alone tells of
    its 29 objects that nobody freed. The exit code stays what it is.
    """
    global _silence
    if _silence is None:
        _silence = _Silence()


def repeat_below_launcher(text: str) -> None:
    """Say `text` on standard error once more where this process was started by a launcher, when that has ended.

    `accelerate launch` (behind `axolotl train`) and `torchrun` end in a traceback of their own when a rank has failed,
    with the rank's message far above it. Of several ranks that fail, the first one's message is repeated. Linux only.
    """
    parent = os.getppid()
    if not _is_launcher(parent):
        return
    with suppress(OSError, AttributeError):
        launcher = os.pidfd_open(parent)
        mark = Path(tempfile.gettempdir()) / f"arte-last-word-{parent}"
        mark.touch(exist_ok=False)
        command = [sys.executable, "-I", "-S", "-c", _REPEAT, str(launcher), str(mark)]
        # A session of its own: launchers end the ranks' whole process groups.
        repeating = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[launcher], start_new_session=True)
        assert repeating.stdin is not None
        with repeating.stdin as told:
            told.write(text.encode())


def _is_launcher(process: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        names = {Path(word.decode(errors="replace")).name for word in words}
        return {"accelerate", "launch"} <= names or bool({"torchrun", "torch.distributed.run"} & names)
    return False
