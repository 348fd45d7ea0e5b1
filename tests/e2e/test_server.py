"""Teacher and student on a real server with the OpenAI API, `transformers serve` on CPU, started by the run itself."""

import os
import re
import signal
import time

import pytest
import yaml

from arte_plugin.config.engines import TransformersEngineArgs
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, read_rows
from arte_plugin.run.run import Run
from arte_plugin.stages.probing import probe
from tests.e2e.conftest import SERVE, arte, start
from tests.servers import server_processes

pytest.importorskip("transformers.cli.serving.completion", reason="this transformers serves no /v1/completions")


@pytest.fixture(scope="module")
def served(tiny_config, tmp_path_factory):
    """A run up to stage 3 with both roles served: its YAML, its folder and what it printed.

    The student's server is killed amid the probes.
    """
    folder = tmp_path_factory.mktemp("served")
    config = tiny_config | {"output_dir": str(folder / "out")}
    engine = {
        "kind": "server",
        "api": "transformers",
        "teacher": {"command": SERVE, "adapter_options": "--unused {adapter}", "dtype": "float32"},
        "student": {"command": SERVE, "dtype": "float32"},
        "concurrency": 3,
        "start_timeout": 120,
    }
    # No respondents: one server less to wait for.
    preference_set = {"size": 6, "method": "random"}
    config["arte"] = config["arte"] | {"engine": engine, "preference_set": preference_set}
    path = folder / "arte.yaml"
    path.write_text(yaml.safe_dump(config))
    out, said = folder / "out" / "arte", folder / "said.log"
    # It needs no GPU and little memory, but would take all cores for matrices of 128 columns.
    run = start("arte", "probe", str(path), log=said, OMP_NUM_THREADS="1")
    try:
        student = out / "servers/taught.log"
        until = time.monotonic() + 300
        while not (student.exists() and "/v1/completions" in student.read_text()):
            assert run.poll() is None and time.monotonic() < until, said.read_text()[-4000:]
            time.sleep(0.02)
        for server in server_processes([student]):
            os.kill(server, signal.SIGKILL)
        assert run.wait(300) == 0, said.read_text()[-4000:]
    finally:
        run.kill()
    return path, out, said.read_text()


def test_the_stages_are_done_by_theserver_processes(served):
    _, out, said = served
    assert read_rows(out / "01-elicit/drafts.jsonl", Draft)
    for name in ("teacher", "taught"):
        log = (out / "servers" / f"{name}.log").read_text()
        assert "POST /v1/completions" in log and "Application shutdown complete" in log
    told = re.findall(r"(\d+) requests in [\d.]+ s: (\d+) tokens/s, achieved concurrency ([\d.]+)", said)
    # Question calls, rationales and probes at least.
    assert len(told) >= 3
    # httpx's own line for each request would bury them.
    assert "HTTP Request" not in said
    assert all(int(tokens) > 0 and 0 < float(concurrency) <= 3 for _, tokens, concurrency in told)


def test_a_server_that_was_killed_is_started_again(served):
    _, out, said = served
    assert "was killed by signal 9" in said and "is started again (1 of 3)" in said
    assert (out / "servers/taught.log").read_text().count("$ ") == 2
    drafts = read_rows(out / "01-elicit/drafts.jsonl", Draft)
    probes = read_rows(out / "03-probe/probes.jsonl", Probe)
    assert len({(one.draft_id, one.preference_id) for one in probes}) == len(probes) == 6 * len(drafts)


def test_no_server_is_left(served):
    _, out, _ = served
    assert not server_processes(out.glob("servers/*.log"))


def test_greedy_answers_are_those_of_the_transformers_engine(served, tmp_path):
    """Same weights, precision and tokens. The last bits may differ with the batch; here no answer hangs on them."""
    path, out, _ = served
    run = Run(yaml.safe_load(path.read_text()))
    args = run.args.model_copy(update={"engine": TransformersEngineArgs()})
    student = student_model(args.student, args, run.cfg, RequestCache(tmp_path / "requests.sqlite"))
    drafts = read_rows(out / "01-elicit/drafts.jsonl", Draft)
    chosen = read_rows(out / "02-preference-set/preference_set.jsonl", PreferenceQuestion)
    here = list(probe(run.tasks[0], drafts, chosen, student, args.probe))
    assert read_rows(out / "03-probe/probes.jsonl", Probe) == here
    assert student.identity != student_model(run.args.student, run.args, run.cfg, run.cache).identity


def test_again_from_the_cache_without_a_server(served):
    path, out, _ = served
    before = {log: log.read_text() for log in out.glob("servers/*.log")}
    rows = read_rows(out / "03-probe/probes.jsonl", Probe)
    # Nothing is done any more, and every request is answered.
    (out / "manifest.json").unlink()
    (out / "03-probe/probes.jsonl").unlink()
    done = arte("probe", str(path))
    assert done.returncode == 0, done.stderr[-4000:]
    assert read_rows(out / "03-probe/probes.jsonl", Probe) == rows
    assert {log: log.read_text() for log in out.glob("servers/*.log")} == before
