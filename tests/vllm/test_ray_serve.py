"""The student behind Ray Serve, two replicas of vLLM on this machine, one of them killed while it answers."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.engines.base import Request
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from tests.taught import TAUGHT
from tests.vllm.differences import NEAR_TIE, differences, told

APP = Path(__file__).with_name("serve_app.py")
#: Drafts, and probes of each.
FAMILIES, SIBLINGS = 12, 10
#: Seconds, far more than it takes.
PATIENCE = 3600


@pytest.fixture(scope="module")
def cluster(serve, note):
    """The address, and the folder of Ray's logs."""
    python = Path(os.environ["ARTE_VLLM"]).with_name("python")
    # Sockets lie there, whose names may not be long.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder, open(f"{folder}/said.log", "w+") as said:
        port, ready = _free_port(), Path(folder) / "ready"
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env |= {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        started = time.monotonic()
        command = [str(python), str(APP), str(TAUGHT), str(port), str(ready)]
        app = subprocess.Popen(command, stdout=said, stderr=said, env=env, start_new_session=True)
        try:
            while not ready.exists():
                assert app.poll() is None and time.monotonic() < started + PATIENCE, Path(said.name).read_text()[-4000:]
                time.sleep(1)
            note("Ray Serve: seconds until two replicas answer", round(time.monotonic() - started))
            assert len(_replicas()) == 2
            yield f"http://127.0.0.1:{port}/v1", Path(folder)
        finally:
            app.terminate()
            try:
                app.wait(300)
            except subprocess.TimeoutExpired:
                os.killpg(app.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def make_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")

    def make(name, engine):
        task = {"name": "t", "description": "d", "questions": {"path": "q"}, "answer": "boolean"}
        block = {"student": {"base_model": str(TAUGHT), "dtype": "float32"}, "tasks": [task], "engine": engine}
        args = ArteArgs.model_validate(block)
        return student_model(args.student, args, {"attn_implementation": "sdpa"}, RequestCache(folder / f"{name}.db"))

    return make


def served_by(url: str) -> dict:
    """As docs/scaling.md has it."""
    student = {"base_urls": [url], "model": "student"}
    return {"kind": "server", "api": "vllm", "prompts": "text", "student": student, "concurrency": 8, "patience": 900}


def probes(renderer, first: int) -> list[Request]:
    """Requests of families that begin alike, and unlike the others from the first word on."""
    found = []
    for family in range(first, first + FAMILIES):
        shown = " ".join(f"{family} and {family + k} is {(family * k) % 7 > 3}." for k in range(12))
        for sibling in range(SIBLINGS):
            prompt = renderer.prompt(f"{family}: {shown} So not ( {sibling % 2 == 0} and {sibling} < {family} ) is?")
            found.append(Request(prompt, f"{family}", 24, 0.0, 0))
    return found


def test_prompts_that_begin_alike_mostly_go_to_one_replica(cluster, make_model, note, monkeypatch):
    url, folder = cluster
    served = make_model("alike", served_by(url))
    requests = probes(served.renderer, 100)
    family_of = {request.prompt: request.group for request in requests}
    numbers: dict[str, str] = {}
    post = httpx.AsyncClient.post

    async def numbered(self, target, json):
        number = f"arte-{len(numbers)}"
        numbers[number] = family_of[json["prompt"]]
        return await post(self, target, json=json, headers={"X-Request-ID": number})

    monkeypatch.setattr(httpx.AsyncClient, "post", numbered)
    assert len(served.ask(requests, "alike")) == len(requests)
    answered: dict[str, Counter[int]] = {}
    for replica in _replicas():
        # It has a line for each request there.
        [log] = folder.glob(f"ray/session_latest/logs/worker-*-{replica}.err")
        for number in set(re.findall(r"\b(arte-\d+)\b", log.read_text())):
            answered.setdefault(numbers[number], Counter())[replica] += 1
    total = sum(count.total() for count in answered.values())
    assert total >= len(requests)
    together = sum(max(count.values()) for count in answered.values()) / total
    used = {replica for count in answered.values() for replica in count}
    note("Ray Serve: siblings on their family's first replica", {"share": round(together, 3), "replicas": len(used)})
    # By chance 0.62, of ten on two.
    assert together > 0.8


def test_nothing_is_lost_where_a_replica_is_killed(cluster, make_model, note):
    url, _ = cluster
    served, here = make_model("killed", served_by(url)), make_model("here", {})
    requests = probes(served.renderer, 300)
    before = _replicas()
    killed: list[int] = []
    put, answers = served.cache.put, []

    def kill_amid(rows):
        put(rows)
        answers.append(1)
        if len(answers) == len(requests) // 3:
            killed.append(before[0])
            os.kill(before[0], signal.SIGKILL)

    served.cache.put = kill_amid
    there = served.ask(requests, "one is killed")
    assert killed and killed[0] not in _replicas()
    margins = differences(here.engine().model, here.renderer.tokenizer, requests, here.ask(requests, "here"), there)
    here.close()
    note("Ray Serve: one of two replicas killed", told(margins, len(requests)))
    assert len(there) == len(requests) and all(margin < NEAR_TIE for margin in margins)


def _replicas() -> list[int]:
    """The processes of the student's replicas."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_text()
        except OSError:
            continue
        if title.startswith("ray::ServeReplica") and "LLMServer" in title:
            found.append(int(path.parent.name))
    return sorted(found)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
