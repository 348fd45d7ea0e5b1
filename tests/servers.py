"""The processes of servers that a run has started."""

import re
from collections.abc import Iterable
from pathlib import Path


def server_processes(logs: Iterable[Path]) -> list[int]:
    """The processes of those servers that write, or wrote, to `logs`."""
    ports = {port for log in logs for port in re.findall(r"--port (\d+)", log.read_text())}
    assert ports
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if "serve" in (words := _words(path)) and ports & set(words)
    ]


def _words(cmdline: Path) -> list[str]:
    try:
        return cmdline.read_text().split("\0")
    except OSError:
        return []
