"""A server that the run starts, watches and ends."""

import atexit
import contextlib
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from arte_plugin.errors import ServerError
from arte_plugin.ranks import LOGGER
from arte_plugin.training import child

LOG = logging.getLogger(LOGGER)

#: How often a server that died is started again.
RESTARTS = 3
#: Seconds that a server has to end by itself.
LEAVE = 30.0
#: Torch's names for the settings of its allocator: today's and the older one.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


class OwnServer:
    """A server made from a command template. Only those of one model run at a time: they take what GPU memory there is.

    Nothing here waits for a server to become ready: `is_ready` is asked again and again.
    """

    _running: ClassVar[list["OwnServer"]] = []

    def __init__(self, name: str, command: str, variables: Mapping[str, str], log_file: Path, start_timeout: float):
        self.name = name
        self.log_file = log_file
        self.base_url = ""
        self._command = command
        self._variables = variables
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._ready = False
        self._restarts = 0

    @staticmethod
    def make_room(servers: Sequence["OwnServer"]) -> None:
        """End all of ours but `servers`."""
        OwnServer.end([one for one in OwnServer._running if one not in servers])

    @staticmethod
    def end(servers: Sequence["OwnServer"]) -> None:
        """End `servers`, all at a time, and all that they started."""
        for one in servers:
            if one._process is not None:
                _signal(one._process, signal.SIGTERM)
        for one in servers:
            one._reap()

    def ensure(self, hangs: str = "") -> None:
        """Start the server if it does not run, or if it `hangs`, in words. Call it from the main thread only.

        Raises `ServerError` when it can't be started, or has died too often.
        """
        if self._process is not None:
            code = self._process.poll()
            if code is None and not hangs:
                return
            said = child.failure(code, self.log_file) if code is not None else hangs
            self._restarts += 1
            if self._restarts > RESTARTS:
                raise ServerError(f"The server for {self.name} {said}")
            LOG.warning(
                "The server for %s %s\nIt is started again (%d of %d).", self.name, said, self._restarts, RESTARTS
            )
            self.stop()
        self._start()

    def is_ready(self) -> bool:
        """Whether it answers. Raises `ServerError` when it has ended instead, or is not ready in time."""
        if self._ready:
            return True
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise ServerError(f"The server for {self.name} {child.failure(code, self.log_file)}")
        took = time.monotonic() - self._started
        if self._answers():
            self._ready = True
            LOG.info("the server for %s is ready after %.0f s", self.name, took)
        elif took > self._start_timeout:
            raise ServerError(
                f"The server for {self.name} was not ready after {self._start_timeout:.0f} s (`start_timeout`). "
                f"{child.log_end(self.log_file)}"
            )
        return self._ready

    def stop(self) -> None:
        """End the server and all that it started."""
        OwnServer.end([self])

    def _reap(self) -> None:
        process, self._process = self._process, None
        self._ready = False
        if self in OwnServer._running:
            OwnServer._running.remove(self)
        atexit.unregister(self.stop)
        if process is None:
            return
        try:
            process.wait(LEAVE)
        except subprocess.TimeoutExpired:
            LOG.warning("The server for %s did not end within %.0f s and is killed.", self.name, LEAVE)
        # Its workers, too: one that stays behind keeps the GPU.
        _signal(process, signal.SIGKILL)
        process.wait()

    def _start(self) -> None:
        port = _free_port()
        self.base_url = f"http://127.0.0.1:{port}/v1"
        words = command_words(self._command, {**self._variables, "port": str(port)})
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        LOG.info("starting a server for %s: %s (log: %s)", self.name, shlex.join(words), self.log_file)
        with self.log_file.open("ab") as log:
            # A run that was killed takes its server along; one that was started by a wrapper may have stayed.
            if not child.lock(log, LEAVE):
                raise ServerError(
                    f"A server for {self.name} from an earlier run still runs, and may hold the GPU: it writes to "
                    f"{self.log_file} (`fuser {self.log_file}` tells its process). End it, and start again."
                )
            log.write(f"\n$ {shlex.join(words)}\n".encode())
            log.flush()
            try:
                # The death signal comes when the thread that starts it ends: hence the main thread.
                self._process = subprocess.Popen(
                    words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(),
                    start_new_session=True, preexec_fn=child.end_with_parent(),
                )  # fmt: skip
            except OSError as error:
                raise ServerError(f"The command of the server for {self.name} can't be run: {error}") from error
        self._started = time.monotonic()
        OwnServer._running.append(self)
        atexit.register(self.stop)

    def _answers(self) -> bool:
        import httpx

        # vLLM, SGLang, llama.cpp and `transformers serve` have /health and answer it once they can generate.
        try:
            with httpx.Client(trust_env=False, timeout=5.0) as client:
                status = client.get(f"{self.base_url.removesuffix('/v1')}/health").status_code
                if status == 404:
                    status = client.get(f"{self.base_url}/models").status_code
        except httpx.TransportError:
            return False
        # 401 and 403: it is up and wants its key.
        return status in (200, 401, 403)


def command_words(template: str, variables: Mapping[str, str]) -> list[str]:
    """The words of a command template, with `{name}` filled in and a leading `~` as the shell has it.

    Other braces stay: servers take JSON in their options.
    """
    words = [
        re.sub(r"\{(\w+)\}", lambda match: variables.get(match[1], match[0]), word) for word in shlex.split(template)
    ]
    return [str(Path(words[0]).expanduser()) if words[0].startswith("~") else words[0], *words[1:]]


def environment() -> dict[str, str]:
    """What a server inherits: a child's environment, without the expandable segments that `axolotl` sets for itself.

    vLLM and SGLang share memory between GPUs by handles that such segments don't have. Who wants them there says so in
    the command: `env PYTORCH_ALLOC_CONF=… vllm serve …`.
    """
    found = child.environment()
    for name in ALLOCATOR:
        if name in found:
            # The comma within `roundup_power2_divisions:[256:1,>:4]` parts nothing.
            options = re.split(r",(?![^\[]*\])", found.pop(name))
            kept = [one.strip() for one in options if one.partition(":")[0].strip() != "expandable_segments"]
            if kept:
                found[name] = ",".join(kept)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # It leads a process group of its own (`start_new_session`), which may be gone.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
