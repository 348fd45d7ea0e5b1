"""The whole loop with teacher, student and the aligned teacher's adapter on vLLM, the student's server killed once."""

import os
import re
import signal
import time

import pytest
import yaml

from arte_plugin.config.engines import TransformersEngineArgs
from arte_plugin.engines.base import Request
from arte_plugin.language.prompts import RATIONALE_STOP
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, TailoredExample, read_rows
from arte_plugin.run.run import Run
from arte_plugin.stages.probing import probe_request
from tests.e2e.conftest import start, write_changed
from tests.servers import server_processes
from tests.vllm.differences import NEAR_TIE, differences, told

RANK = 4
#: Seconds, far more than it takes: on a machine that has nothing else to do, minutes.
PATIENCE = 3600
SERVERS = ("teacher", "taught", "aligned-teacher")


@pytest.fixture(scope="module")
def looped(serve, tiny_config, tmp_path_factory):
    """A finished run: its YAML, its folder and what it printed."""
    folder = tmp_path_factory.mktemp("loop")
    adapter = "--enable-lora --max-lora-rank 8 --lora-modules {adapter_name}={adapter}"
    changes = {
        "output_dir": str(folder / "out"),
        "lora_r": RANK,
        # So that the adapter shows in what the teacher writes.
        "learning_rate": 5e-3,
        "num_epochs": 4,
        "arte.engine": {
            "kind": "server",
            "api": "vllm",
            "teacher": {"command": serve, "adapter_options": adapter, "dtype": "float32"},
            "student": {"command": serve, "dtype": "float32"},
            "concurrency": 4,
            "start_timeout": 900,
        },
    }
    path = write_changed(tiny_config, changes, folder / "arte.yaml")
    out, said = folder / "out/arte", folder / "said.log"
    run = start("axolotl", "train", str(path), log=said)
    log = out / "servers/taught.log"

    def wait_until(there) -> None:
        until = time.monotonic() + PATIENCE
        while not there():
            assert run.poll() is None and time.monotonic() < until, said.read_text()[-4000:]
            time.sleep(0.02)

    try:
        wait_until((out / "02-preference-set/irt.json").exists)
        # The same server goes on with stage 3.
        before = _answers(log)
        wait_until(lambda: _answers(log) > before + 20)
        for process in server_processes([log]):
            os.kill(process, signal.SIGKILL)
        assert run.wait(PATIENCE) == 0, said.read_text()[-4000:]
    finally:
        run.kill()
    return path, out, said.read_text()


def _answers(log) -> int:
    return log.read_text().count("POST /v1/completions") if log.exists() else 0


def test_a_killed_server_loses_nothing_and_one_start_does_for_two_stages(looped, note):
    _, out, said = looped
    assert "was killed by signal 9" in said and "is started again (1 of 3)" in said
    starts = {name: (out / f"servers/{name}.log").read_text().count("\n$ ") for name in SERVERS}
    note("the loop: starts of a server", starts)
    # The student's: for stages 2 and 3, and once more after it was killed.
    assert starts == {"teacher": 1, "taught": 2, "aligned-teacher": 1}
    drafts = read_rows(out / "01-elicit/drafts.jsonl", Draft)
    probes = read_rows(out / "03-probe/probes.jsonl", Probe)
    assert len({(one.draft_id, one.preference_id) for one in probes}) == len(probes) == 6 * len(drafts)
    ready = [int(seconds) for seconds in re.findall(r"is ready after (\d+) s", said)]
    note("the loop: seconds until a server is ready", ready)
    assert (out / "08-evaluate/results.json").exists()


def test_no_server_is_left(looped):
    _, out, _ = looped
    assert not server_processes(out.glob("servers/*.log"))


def test_greedy_probes_are_those_of_our_engine(looped, tmp_path, note):
    path, out, _ = looped
    run = Run(yaml.safe_load(path.read_text()))
    served = student_model(run.args.student, run.args, run.cfg, run.cache)
    here = student_model(run.args.student, _by_ourselves(run), run.cfg, RequestCache(tmp_path / "requests.sqlite"))
    drafts = read_rows(out / "01-elicit/drafts.jsonl", Draft)
    chosen = read_rows(out / "02-preference-set/preference_set.jsonl", PreferenceQuestion)
    requests = [probe_request(run.tasks[0], d, q, here, run.args.probe) for d in drafts for q in chosen]
    # From the cache: nothing is started.
    there = served.ask(requests, "served")
    assert served.usage.asked == 0
    # The closing tag that ends a reply is kept.
    assert any(one.text.endswith("</ans>") for one in there)
    margins = differences(here.engine().model, here.renderer.tokenizer, requests, here.ask(requests, "here"), there)
    here.close()
    note("the loop: probes", told(margins, len(requests)))
    assert all(margin < NEAR_TIE for margin in margins)


def test_the_aligned_teacher_s_adapter_is_what_answered(looped, tmp_path, note):
    """Its greedy rationales are those of the adapter on our engine, and not those of the teacher without it."""
    from axolotl.cli.config import load_cfg

    path, out, _ = looped
    assert "--lora-modules arte-" in (out / "servers/aligned-teacher.log").read_text()
    run = Run(load_cfg(str(path)))
    rows = read_rows(out / "06-regenerate/tailored.jsonl", TailoredExample)
    cache = RequestCache(tmp_path / "requests.sqlite")
    served = teacher_model(run.cfg, run.args, run.cache, run.aligned_dir)
    requests = [
        Request(
            served.renderer.asking(row.prompt), "", run.args.regenerate.max_new_tokens, 0.0, 0, RATIONALE_STOP,
            run.tasks[0].args.answer,
        )
        for row in rows
    ]  # fmt: skip
    there = served.ask(requests, "served")
    assert served.usage.asked == 0
    aligned, before = (
        teacher_model(run.cfg, _by_ourselves(run), cache, adapter) for adapter in (run.aligned_dir, None)
    )
    without = before.ask(requests, "the teacher as it was")
    before.close()
    here = aligned.ask(requests, "the aligned teacher")
    margins = differences(aligned.engine().model, aligned.renderer.tokenizer, requests, here, there)
    aligned.close()
    other = sum(a.text != b.text for a, b in zip(without, there, strict=True))
    note("the loop: tailored rationales", {**told(margins, len(rows)), "other than without the adapter": other})
    assert all(margin < NEAR_TIE for margin in margins)
    assert other > len(margins)


def _by_ourselves(run: Run):
    return run.args.model_copy(update={"engine": TransformersEngineArgs()})
