"""Signs of life: every rank writes one every few seconds and reads the others', so that a dead one is not waited for.

No clocks are compared, and no times of files: across machines neither can be relied on. A rank is silent when it has
written nothing new for so many of *our own* beats as make up the timeout. If the disk hangs, it hangs for all, and
nobody is taken for dead. On one machine the process itself is looked at: it may be too busy to beat, but not gone.
"""

import atexit
import contextlib
import json
import math
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Longest pause between two beats (s).
LONGEST_PAUSE = 5.0


@dataclass
class _Peer:
    """What is known of another rank."""

    text: str = ""
    beat: dict[str, Any] | None = None
    #: Whether it has beaten while we looked; its file may be left over from an earlier start.
    seen: bool = False
    #: Our own beats since its last one.
    silent: int = 0


class Heartbeat:
    """This rank's beat in `folder`, and what is heard of the others there; `timeout` in seconds."""

    def __init__(self, folder: Path, rank: int, world_size: int, timeout: float, place: str | None = None):
        """`place` tells where process ids can be compared; given by tests only."""
        self.folder = folder
        self._file = folder / f"{rank}.json"
        self._pid = os.getpid()
        self._place = _place() if place is None else place
        self._me = {"host": socket.gethostname(), "place": self._place, "pid": self._pid, "since": _since(self._pid)}
        self._pause = min(LONGEST_PAUSE, timeout / 10)
        self._patience = math.ceil(timeout / self._pause)
        self._beats = 0
        self._peers = {other: _Peer() for other in range(world_size) if other != rank}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="arte-heartbeat", daemon=True)

    def start(self) -> None:
        """Beat from now on, until the process ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for rank, peer in self._peers.items():
            peer.text = self._read(rank)
        self._beat()
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Beat no more, and say so: another machine need not wait for the timeout."""
        # A forked child has our exit handlers, but is not this rank.
        if os.getpid() != self._pid or self._over.is_set():
            return
        self._over.set()
        self._thread.join(1.0)
        self._beat(ended=True)

    def dead(self) -> str | None:
        """In words, a rank that has died since it was last seen alive; None if there is none."""
        for rank, peer in self._peers.items():
            if not peer.seen or peer.beat is None:
                continue
            what = f"Rank {rank} (process {peer.beat['pid']} on {peer.beat['host']})"
            if peer.beat.get("ended"):
                return f"{what} has ended"
            if self._place and peer.beat["place"] == self._place:
                if _since(peer.beat["pid"]) != peer.beat["since"]:
                    return f"{what} has died"
            elif peer.silent > self._patience:
                return f"{what} has given no sign of life for {self._patience * self._pause:g} s"
        return None

    def _go_on(self) -> None:
        while not self._over.wait(self._pause):
            if self._beat():
                for rank, peer in self._peers.items():
                    self._listen(rank, peer)

    def _beat(self, ended: bool = False) -> bool:
        self._beats += 1
        try:
            # In place: under NFS, opening a file asks for its present state; one put in its place may not be seen yet.
            self._file.write_text(json.dumps({**self._me, "beat": self._beats, "ended": ended}), encoding="utf-8")
        except OSError:
            return False
        return True

    def _listen(self, rank: int, peer: _Peer) -> None:
        text = self._read(rank)
        peer.silent += 1
        # Nothing there, or half written: no news.
        if text != peer.text and text.endswith("}"):
            peer.text, peer.beat, peer.seen, peer.silent = text, json.loads(text), True, 0

    def _read(self, rank: int) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / f"{rank}.json").read_text(encoding="utf-8")
        return ""


def _place() -> str:
    """What two processes have in common that see each other's ids: the running kernel and the namespace of ids."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _since(pid: int) -> str:
    """When a process started, in the kernel's ticks, which tells it from a later one of the same id; empty if gone."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    # proc(5): fields 3 and 22. A zombie is dead, only not buried yet.
    return "" if state in "ZX" else rest[18]
