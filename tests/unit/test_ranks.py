"""Two real processes that share requests: when one dies, the other ends soon, and says who it was."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from arte_plugin.ranks.heartbeat import Heartbeat

#: A rank that asks for five parts of six requests: rank 0 answers its share at once, rank 1 does what the test wants.
RANK = """
import sys, time
from pathlib import Path
from arte_plugin import ranks; from arte_plugin.ranks import heartbeat
from arte_plugin.engines.base import Completion, Request
from arte_plugin.errors import StageError, shown_errors
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache

folder, place, end = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

class Answering:
    def generate(self, batch, keep=None):
        while ranks.rank() == 1 and end != "answers":
            time.sleep(0.05)
            if end == "fails" and (folder / "go").exists():
                raise StageError("out of memory")
        return [Completion(f"reply to {one.prompt}", "stop", 1, 1) for one in batch]
    def report(self):
        return ""

if place:
    heartbeat._place = lambda: f"{place} {ranks.rank()}"
with shown_errors():
    ranks.watch(folder / "ranks", 1.0)
    model = Model("m", {}, None, Answering, RequestCache(folder / "c.sqlite"), 2, 60.0)
    parts = [[Request(f"{part}.{i}", f"{part}.{i // 2}", 8, 0.0, 0) for i in range(6)] for part in range(5)]
    for part in model.ask_in_parts(lambda: parts, 30, "probe sums"):
        print(*(one.text for one in part), sep="\\n")
    print("asked", model.usage.asked, model.usage.requests)
"""


def beats(folder, rank):
    try:
        return json.loads((folder / "ranks" / f"{rank}.json").read_text())["beat"]
    except (OSError, ValueError):
        return 0


def start(folder, place, end):
    return [
        subprocess.Popen(
            [sys.executable, "-c", RANK, folder, place, end],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_ranks_share_the_batches_of_all_parts_evenly(tmp_path):
    told = [rank.communicate(timeout=60)[0].splitlines() for rank in start(tmp_path, "", "answers")]
    replies = [f"reply to {part}.{i}" for part in range(5) for i in range(6)]
    # Fifteen batches of two.
    assert told == [[*replies, "asked 16 30"], [*replies, "asked 14 30"]]


@pytest.mark.parametrize(
    ("place", "end", "said"),
    [
        ("", "is killed", r"Rank 1 (process {pid} on {host}) has died"),
        ("machine", "is killed", "Rank 1 (process {pid} on {host}) has given no sign of life for 1 s"),
        ("machine", "fails", "Rank 1 (process {pid} on {host}) has ended"),
    ],
)
def test_a_rank_that_dies_is_not_waited_for(tmp_path, place, end, said):
    ranks = start(tmp_path, place, end)
    try:
        until = time.monotonic() + 60
        while min(beats(tmp_path, rank) for rank in range(2)) < 5:
            assert time.monotonic() < until and all(rank.poll() is None for rank in ranks)
            time.sleep(0.02)
        if end == "fails":
            (tmp_path / "go").touch()
        else:
            ranks[1].send_signal(signal.SIGKILL)
        # Long before the 60 s that a rank without progress is waited for.
        _, told = ranks[0].communicate(timeout=30)
    finally:
        for rank in ranks:
            rank.kill()
    assert ranks[0].returncode == 1
    said = said.format(pid=ranks[1].pid, host=os.uname().nodename)
    assert f"arte: {said}, and rank 0 waits for the other ranks' share of: probe sums (0 of 2 there)" in told


@pytest.fixture
def beating():
    started = []

    def start(*arguments, **options):
        started.append(Heartbeat(*arguments, **options))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def heard(one, beats):
    until = one._beats + beats
    while one._beats < until:
        time.sleep(0.01)


def test_a_file_from_an_earlier_start_is_no_dead_rank(tmp_path, beating):
    left = {"host": "h", "place": "", "pid": 2**22 + 1, "since": "1", "beat": 7, "ended": True}
    (tmp_path / "1.json").write_text(json.dumps(left))
    first = beating(tmp_path, 0, 2, 0.2)
    heard(first, 30)
    assert first.dead() is None
    second = beating(tmp_path, 1, 2, 0.2)
    heard(first, 3)
    assert first.dead() is None
    second.stop()
    heard(first, 3)
    assert "Rank 1" in str(first.dead()) and str(first.dead()).endswith("has ended")


def test_a_rank_that_cannot_write_takes_nobody_for_dead(tmp_path, beating):
    """The shared disk hangs: the others' beats do not come either."""
    first = beating(tmp_path, 0, 2, 0.2, place="one")
    second = beating(tmp_path, 1, 2, 0.2, place="another")
    heard(first, 3)
    folder = tmp_path.rename(tmp_path.with_name("away"))
    heard(first, 30)
    assert first.dead() is None and second.dead() is None
    folder.rename(tmp_path)
    heard(first, 3)
    assert first.dead() is None
    second._over.set()
    heard(first, 15)
    assert "no sign of life for 0.2 s" in str(first.dead())


def test_a_busy_process_on_the_same_machine_is_alive(tmp_path, beating):
    first, second = beating(tmp_path, 0, 2, 0.2), beating(tmp_path, 1, 2, 0.2)
    heard(first, 3)
    second._over.set()
    heard(first, 30)
    assert first.dead() is None
