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
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from arte_plugin import child
from arte_plugin.errors import ServerError
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: How often a server that died is started again.
RESTARTS = 3
#: Seconds that a server has to end by itself.
LEAVE = 30.0


class OwnServer:
    """A server made from a command template. One at a time: each takes what GPU memory there is."""

    _running: ClassVar["OwnServer | None"] = None

    def __init__(self, name: str, command: str, variables: Mapping[str, str], log_file: Path, start_timeout: float):
        self.name = name
        self.log_file = log_file
        self.base_url = ""
        self._command = command
        self._variables = variables
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0

    def ensure(self) -> bool:
        """Start the server if it does not run; whether it was started. Call it from the main thread only.

        Raises `ServerError` when it does not become ready, or has died too often.
        """
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return False
            self._restarts += 1
            if self._restarts > RESTARTS:
                raise ServerError(f"The server for {self.name} {child.failure(code, self.log_file)}")
            LOG.warning(
                "The server for %s %s\nIt is started again (%d of %d).",
                self.name, child.failure(code, self.log_file), self._restarts, RESTARTS,
            )  # fmt: skip
            self.stop()
        if OwnServer._running is not None:
            OwnServer._running.stop()
        self._start()
        return True

    def stop(self) -> None:
        """End the server and all that it started."""
        process, self._process = self._process, None
        if OwnServer._running is self:
            OwnServer._running = None
        atexit.unregister(self.stop)
        if process is None:
            return
        _signal(process, signal.SIGTERM)
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
        started = time.monotonic()
        with self.log_file.open("ab") as log:
            log.write(f"\n$ {shlex.join(words)}\n".encode())
            log.flush()
            try:
                # The death signal comes when the thread that starts it ends: hence the main thread.
                self._process = subprocess.Popen(
                    words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=child.environment(),
                    start_new_session=True, preexec_fn=child.end_with_parent(),
                )  # fmt: skip
            except OSError as error:
                raise ServerError(f"The command of the server for {self.name} can't be run: {error}") from error
        OwnServer._running = self
        atexit.register(self.stop)
        try:
            self._wait_until_ready(started + self._start_timeout)
        except BaseException:
            self.stop()
            raise
        LOG.info("the server for %s is ready after %.0f s", self.name, time.monotonic() - started)

    def _wait_until_ready(self, until: float) -> None:
        import httpx

        # vLLM, SGLang, llama.cpp and `transformers serve` have /health and answer it once they can generate.
        root = self.base_url.removesuffix("/v1")
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while True:
                assert self._process is not None
                if (code := self._process.poll()) is not None:
                    raise ServerError(f"The server for {self.name} {child.failure(code, self.log_file)}")
                try:
                    status = client.get(f"{root}/health").status_code
                    if status == 404:
                        status = client.get(f"{self.base_url}/models").status_code
                    # 401 and 403: it is up and wants its key.
                    if status in (200, 401, 403):
                        return
                except httpx.TransportError:
                    pass
                if time.monotonic() > until:
                    raise ServerError(
                        f"The server for {self.name} was not ready after {self._start_timeout:.0f} s "
                        f"(`start_timeout`). {child.log_end(self.log_file)}"
                    )
                time.sleep(0.5)


def command_words(template: str, variables: Mapping[str, str]) -> list[str]:
    """The words of a command template, with `{name}` filled in and a leading `~` as the shell has it.

    Other braces stay: servers take JSON in their options.
    """
    words = [
        re.sub(r"\{(\w+)\}", lambda match: variables.get(match[1], match[0]), word) for word in shlex.split(template)
    ]
    return [str(Path(words[0]).expanduser()) if words[0].startswith("~") else words[0], *words[1:]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # It leads a process group of its own (`start_new_session`), which may be gone.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
