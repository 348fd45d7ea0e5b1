import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
import sqlite3
from types import SimpleNamespace

import pytest

from arte_plugin import ranks
from arte_plugin.engines.base import Completion, Request, plan_batches
from arte_plugin.errors import StageError
from arte_plugin.loop import loop
from arte_plugin.models.request_cache import RequestCache, request_key
from arte_plugin.run.manifest import Manifest

MODEL = {"model": "abc", "dtype": "float32"}
REQUEST = Request("prompt", "group", 16, 1.0, 7, ("</ans>",))
DONE = Completion("text", "stop", 3, 4)


@pytest.mark.parametrize(
    "change", [{"prompt": "other"}, {"max_new_tokens": 17}, {"temperature": 0.5}, {"seed": 8}, {"stop": ()}]
)
def test_key_depends_on_everything_that_decides_the_output(change):
    assert request_key(MODEL, dataclasses.replace(REQUEST, **change)) != request_key(MODEL, REQUEST)


def test_key_depends_on_the_model():
    assert request_key({**MODEL, "dtype": "bfloat16"}, REQUEST) != request_key(MODEL, REQUEST)


def test_key_leaves_out_what_does_not_matter():
    assert request_key(MODEL, dataclasses.replace(REQUEST, group="other")) == request_key(MODEL, REQUEST)
    greedy = dataclasses.replace(REQUEST, temperature=0.0)
    assert request_key(MODEL, dataclasses.replace(greedy, seed=9)) == request_key(MODEL, greedy)


def test_what_is_put_is_got_and_never_replaced(tmp_path):
    cache = RequestCache(tmp_path / "cache.sqlite")
    cache.put([("a", DONE)])
    cache.put([("a", dataclasses.replace(DONE, text="other")), ("b", DONE)])
    assert cache.get(["a", "b", "c"]) == {"a": DONE, "b": DONE}
    assert cache.count(["a", "b", "c"]) == 2
    assert len(cache.get([f"{i}" for i in range(1200)] + ["b"])) == 1


def _write_and_die(path):
    cache = RequestCache(path)
    cache.put([("kept", DONE)])
    cache._db.execute("BEGIN IMMEDIATE")
    cache._db.execute("INSERT INTO completions VALUES ('lost', '', 'stop', 0, 0)")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_loses_at_most_the_batch_in_flight(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(tmp_path / "cache.sqlite",))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert RequestCache(tmp_path / "cache.sqlite").get(["kept", "lost"]) == {"kept": DONE}


def test_batches_keep_siblings_together_and_depend_on_nothing_else():
    requests = [Request(f"{draft} {'x' * i}", draft, 8, 0.0, 0) for i in range(5) for draft in ("a", "b")] + [
        Request("y" * i, f"single-{i}", 8, 0.0, 0) for i in range(3)
    ]
    plan = plan_batches(requests, 3)
    assert sorted((r for batch in plan for r in batch), key=str) == sorted(requests, key=str)
    assert all(len(batch) <= 3 for batch in plan)
    assert [{request.group[:6] for request in batch} for batch in plan] == [{"a"}, {"a"}, {"b"}, {"b"}, {"single"}]
    assert [len(batch) for batch in plan_batches(requests, 10)] == [10, 3], "whole groups fill a batch"
    assert [len(batch) for batch in plan_batches(requests, 9)] == [5, 5, 3], "and are not split to do so"
    assert plan_batches(requests[::-1], 3) == plan


def _open_together(folder, go, one_machine):
    for number in range(40):
        go.wait()
        cache = RequestCache(folder / f"{number}.sqlite", one_machine=one_machine)
        cache.put([(f"{os.getpid()} {i}", DONE) for i in range(3)])
        cache.close()


@pytest.mark.parametrize("one_machine", [True, False])
def test_ranks_that_start_together_make_the_file_together(tmp_path, one_machine):
    context = multiprocessing.get_context("spawn")
    go = context.Barrier(3, timeout=60)
    ranks = [context.Process(target=_open_together, args=(tmp_path, go, one_machine)) for _ in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0, 0]
    keys = [f"{rank.pid} {i}" for rank in ranks for i in range(3)]
    assert all(RequestCache(tmp_path / f"{number}.sqlite").count(keys) == 9 for number in range(40))


def _open_as(rank, path, go):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "3"}
    go.wait()
    RequestCache(path, one_machine=False).put([(f"{rank}", DONE)])


def test_machines_share_no_memory(tmp_path):
    path = tmp_path / "c.sqlite"
    cache = RequestCache(path)
    cache.put([("before", DONE)])
    assert cache._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    cache.close()
    # The run goes on on several.
    context = multiprocessing.get_context("spawn")
    go = context.Barrier(3, timeout=60)
    ranks = [context.Process(target=_open_as, args=(rank, path, go)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0, 0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.sqlite"]
    assert path.read_bytes()[18:20] == b"\x01\x01"
    assert len(RequestCache(path).get(["before", "0", "1", "2"])) == 4


@pytest.mark.parametrize(
    ("env", "several"),
    [({}, False), ({"WORLD_SIZE": "4"}, False), ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, False),
     ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, True)],
)  # fmt: skip
def test_how_many_machines(monkeypatch, env, several):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert ranks.on_several_machines() is several


def test_another_runs_cache_is_read_and_copied_but_not_changed(tmp_path):
    other = RequestCache(tmp_path / "other.sqlite")
    other.put([("a", DONE)])
    other.close()
    before = (tmp_path / "other.sqlite").read_bytes()
    cache = RequestCache(tmp_path / "own.sqlite", also=tmp_path / "other.sqlite")
    cache.put([("b", DONE)])
    assert cache.get(["a", "b", "c"]) == {"a": DONE, "b": DONE}
    cache.close()
    assert RequestCache(tmp_path / "own.sqlite").get(["a"]) == {"a": DONE}
    assert (tmp_path / "other.sqlite").read_bytes() == before
    assert RequestCache(tmp_path / "own.sqlite", also=tmp_path / "not there").get(["a"]) == {"a": DONE}


def _files(folder):
    return sorted(file.name for file in folder.iterdir())


def test_whoever_closes_last_leaves_one_file_that_holds_everything(tmp_path):
    (tmp_path / "run").mkdir()
    first, second = (RequestCache(tmp_path / "run/c.sqlite") for _ in range(2))
    first.put([("a", DONE)])
    second.put([("b", DONE)])
    first.close()
    second.put([("c", DONE)])
    second.close()
    assert _files(tmp_path / "run") == ["c.sqlite"]
    shutil.copy(tmp_path / "run/c.sqlite", tmp_path / "alone.sqlite")
    assert RequestCache(tmp_path / "alone.sqlite").count(["a", "b", "c"]) == 3


def test_closed_it_is_opened_again_when_it_is_needed(tmp_path):
    cache = RequestCache(tmp_path / "c.sqlite")
    cache.close()
    cache.put([("a", DONE)])
    cache.close()
    assert cache.get(["a"]) == {"a": DONE}
    cache.close()
    assert _files(tmp_path) == ["c.sqlite"]


def test_nothing_is_made_before_it_is_needed(tmp_path):
    RequestCache(tmp_path / "run/c.sqlite").close()
    assert _files(tmp_path) == []


def test_another_runs_cache_is_left_without_a_log(tmp_path):
    (tmp_path / "other").mkdir()
    other = RequestCache(tmp_path / "other/c.sqlite")
    other.put([("a", DONE)])
    other.close()
    cache = RequestCache(tmp_path / "own.sqlite", also=other.path)
    assert cache.get(["a"]) == {"a": DONE}
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        cache._also.execute("DELETE FROM completions")
    cache.close()
    assert _files(tmp_path / "other") == ["c.sqlite"]


@pytest.mark.parametrize("end", [None, SystemExit(0), KeyboardInterrupt(), StageError("no more")])
@pytest.mark.parametrize("part", ["until", "after_align"])
def test_however_the_stages_end_the_cache_is_closed(tmp_path, monkeypatch, part, end):
    cache = RequestCache(tmp_path / "c.sqlite")
    out = SimpleNamespace(manifest=Manifest(tmp_path / "run/manifest.json"), close=lambda: None)
    run = SimpleNamespace(cache=cache, out=out, chosen=None, source=None, asked=[], tasks=[])

    def ask(run, *_):
        run.cache.put([("a", DONE)])
        if end:
            raise end

    monkeypatch.setattr(loop.memory, "settle", lambda: None)
    monkeypatch.setattr(loop.merging, "start_from_whole_teacher", ask)
    monkeypatch.setattr(loop, "special_string_lines", lambda *of: [])
    monkeypatch.setattr(loop, "_walk", ask)
    with contextlib.suppress(SystemExit, KeyboardInterrupt, StageError):
        getattr(loop, part)(run, "regenerate")
    assert _files(tmp_path) == ["c.sqlite"]
