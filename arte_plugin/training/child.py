"""Axolotl as a child process: with a log, an end when this process ends, and no second one at the same work."""

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from arte_plugin.errors import StageError
from arte_plugin.models import gpus_seen

#: Left by the teacher's launcher, trainer and trackers; a child `axolotl train` would take them for its own.
_INHERITED_ENVIRONMENT = re.compile(
    r"RANK|WORLD_SIZE|(LOCAL|GROUP|ROLE|MASTER|TORCHELASTIC|ACCELERATE|FSDP|PARALLELISM_CONFIG|WANDB)_\w+"
)

#: `axolotl train`, half as long in starting. Processes that it spawns, as `datasets` does to save a few rows, begin by
#: importing its main module once more, and here there is none. And what it imports is a million objects, which need not
#: be looked through each time that garbage is collected. Nor are logits computed that no loss is taken of.
_TRAIN = (
    "import gc; import axolotl.cli.train; from axolotl.cli.main import main; "
    "from arte_plugin.training.trained_tokens import skip_other_logits; skip_other_logits(); gc.freeze(); main()"
)


@contextlib.contextmanager
def locked_log(log_file: Path, what: str) -> Iterator[IO[bytes]]:
    """An empty log that nobody else writes to; `what` names the work, as in "the student's training".

    Raises `StageError` when a child of an earlier run is still at it.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        if not lock(log):
            raise StageError(
                f"{what[0].upper()}{what[1:]} from an earlier run is still going on: it writes to {log_file}. "
                "Wait for it to end, or end it, and start again."
            )
        log.truncate(0)
        yield log


def axolotl(log: IO[bytes], *arguments: str) -> int:
    """Run `axolotl ARGUMENTS` with its output in `log`, and return its exit code (negative: the signal's number)."""
    command = [sys.executable, "-m", "axolotl.cli.main", *arguments]
    if arguments[0] == "train" and gpus() < 2:
        # accelerate would pin the child to one CPU thread, and start a grandchild that outlives it.
        command = [sys.executable, "-c", _TRAIN, *arguments, "--launcher", "python"]
    return subprocess.run(
        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(), preexec_fn=end_with_parent()
    ).returncode


def train(log: IO[bytes], config: Path, processes: int) -> int:
    """`axolotl train` on `config`, a YAML, in so many processes on this machine; returns its exit code."""
    arguments = ["train", str(config.absolute())]
    if processes > 1:
        # `accelerate launch` would take their number from a config that the user once made for something else.
        arguments += ["--launcher", "torchrun", "--", "--standalone", "--nproc_per_node", str(processes)]
    return axolotl(log, *arguments)


def merge_pieces(log: IO[bytes], pieces: Path, target: Path) -> int:
    """Put an FSDP checkpoint's pieces together in `target` with Axolotl's function, whose command wants a config."""
    program = (
        "import sys; from axolotl.cli.merge_sharded_fsdp_weights import merge_fsdp_weights; "
        "merge_fsdp_weights(*sys.argv[1:])"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(pieces), str(target)],
        stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(), preexec_fn=end_with_parent(),
    ).returncode  # fmt: skip


def failure(code: int, log_file: Path) -> str:
    """How a child ended, and the end of its log: "ended with exit code 1. The end of its log …"."""
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{ended}. {log_end(log_file)}"


def log_end(log_file: Path) -> str:
    """The last lines of a child's log, for an error message."""
    return f"The end of its log, {log_file}:\n{_tail(log_file)}"


def lock(log: IO[bytes], patience: float = 10.0) -> bool:
    """Whether `log` is ours; an earlier run's child that is just ending is waited for, `patience` seconds.

    The child and its workers hold the same open file, so the lock lasts as long as any of them.
    """
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.2)


def gpus() -> int:
    """How many GPUs this process sees."""
    import torch

    return torch.cuda.device_count()


def has_bf16() -> bool:
    """Whether the GPUs, if any, compute in bfloat16."""
    return gpus_seen.seen().computes_bf16


def end_with_parent() -> Callable[[], object] | None:
    """Makes a child end when this process is killed, so that a new run finds it gone. Linux only."""
    if sys.platform != "linux":
        return None
    # Looked up now: between fork and exec there must be no import and no lock.
    prctl, set_death_signal, signal_number = ctypes.CDLL(None).prctl, 1, int(signal.SIGTERM)
    return lambda: prctl(set_death_signal, signal_number)


def environment() -> dict[str, str]:
    """This process's environment without what its launcher, trainer and trackers put there."""
    environment = {key: value for key, value in os.environ.items() if not _INHERITED_ENVIRONMENT.fullmatch(key)}
    if len(environment) < len(os.environ) and environment.get("OMP_NUM_THREADS") == "1":
        # Launchers set it where the user has not.
        del environment["OMP_NUM_THREADS"]
    # `accelerate` lives beside this Python, which need not be on the path.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment


#: Triton's bindings, of what is still alive when a process ends with an error.
_LEAKS = re.compile(r"nanobind: | - leaked | - \.\.\. skipped remainder|See https://nanobind\.")


def _tail(log_file: Path, lines: int = 15) -> str:
    text = log_file.read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    shown = (line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    # Neither progress bars, nor a traceback's underlining, nor what a library counts behind the error.
    kept = [line for line in shown if line.strip(" ^~") and not re.search(r"\d+%\|", line) and not _LEAKS.match(line)]
    return "\n".join(kept[-lines:]) or "(it is empty)"
