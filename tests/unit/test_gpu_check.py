"""`make gpu-check`: what it reads from a finished run, what it objects to, and how it keeps to its time."""

import copy
import json
import os
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from arte_plugin.config.check import check_config
from arte_plugin.training.teacher_recipe import check_it_trains
from arte_plugin.training.teacher_recipe import missing as missing_keys
from arte_plugin.training.weight_change import FEW
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check.attention import choose_attention, missing, try_layer
from benchmarks.gpu_check.checks import check, failures
from benchmarks.gpu_check.config import LOOPS, loop_config
from benchmarks.gpu_check.limited import run_limited
from benchmarks.gpu_check.results import adapter_change, collect, dpo_losses, logged_losses
from benchmarks.gpu_check.table import page
from tests.taught import TAUGHT

#: What a rehearsal on a CPU left (`--device cpu --size small`, the taught tiny model): the files that are read.
FINISHED = Path(__file__).parents[1] / "data" / "gpu_check"


@pytest.fixture
def results():
    made = json.loads((FINISHED / "results.json").read_text())
    for name, loop in made["loops"].items():
        made["loops"][name] = {**loop, **json.loads(json.dumps(collect(FINISHED / f"run-{name}")))}
    return made


def test_finished_runs_are_read_from_their_files(results):
    made = json.loads((FINISHED / "results.json").read_text())
    assert results == made
    assert list(results["loops"]) == list(LOOPS)
    for name, loop in results["loops"].items():
        assert len(loop["losses"]["dpo"]) > 2
        assert len(loop["losses"]["sft"]) >= 1
        assert loop["stages"]["probe"]["new_tokens_per_second"] > 0
        assert 0 < loop["adapter"]["changed"] <= 1 if name != "full" else not loop["adapter"]
        assert loop["student_rate"] == 2e-5
        assert loop["moved"]["sft"]["changed"] > FEW
    assert check(results) == made["checks"]
    assert failures(made["checks"]) == ""


def on_a_gpu(results):
    """The same as a GPU would have left it."""
    made = copy.deepcopy(results)
    made["device"] |= {"kind": "cuda", "memory": 80 * 10**9, "capability": "9.0", "driver": "1", "cuda": "13.0"}
    for loop in made["loops"].values():
        for stage, row in loop["stages"].items():
            if stage != "pair":
                row["memory"] = {"allocated": 10**9, "reserved": 2 * 10**9, "before": 10**7, "after": 3 * 10**7}
                row |= {"memory_kept": 2 * 10**7, "device_kept": 3 * 10**7, "first_on_device": stage == "elicit"}
        loop["stages"]["elicit"]["device_kept"] = 7 * 10**8
        for models in loop["loaded"].values():
            for model in models:
                model |= {
                    "device": "cuda",
                    "dtype": "bfloat16",
                    "varlen": True,
                    "why_not": {"varlen": "the GPU is old"},
                }
    return made


#: Where in the results something is put, what, and what is said of it.
WRONG = {
    "no drafts": ("stages.elicit.kept.drafts", 0, "qlora: drafts that can be parsed: 0"),
    "nothing readable": ("outcomes", {"unparsed": 9}, "probes whose answer can be read: 0 of 9"),
    "no pairs": ("stages.pair.kept", {"question pairs": 0}, "preference pairs: 0"),
    "NaN": ("losses.dpo", [0.69, float("nan")], "dpo: finite losses: 2 steps, 0.690 to nan"),
    "no losses": ("losses.sft", [], "sft: finite losses: no step was logged"),
    "an adapter as it began": ("adapter", {"changed": 0.0, "largest": 0.0}, "the adapter has moved: 0.0 % of B"),
    "no adapter": ("adapter", {}, "the adapter has moved: there is none"),
    "16 bits": ("loaded.align.0.linear", {"Linear": 14}, "align: NF4, double quantisation: 14 Linear (14 in nf4"),
    "one layer in 16 bits": (
        "loaded.regenerate.0.four_bit.0.layers", 13,
        "regenerate: NF4, double quantisation: 14 Linear4bit (13 in nf4, double)",
    ),
    "quantised once": (
        "loaded.elicit.0.four_bit.0.double", False,
        "elicit: NF4, double quantisation: 14 Linear4bit (14 in nf4, not double)",
    ),
    "another attention": ("loaded.probe.0.attention", "eager", "probe: attention: eager, asked: sdpa"),
    "another device": ("loaded.probe.0.device", "cpu", "probe: device: cpu, asked: cuda"),
    "another precision": ("loaded.probe.0.dtype", "float32", "probe: precision: float32"),
    "plain matmuls": (
        "/full/loaded.probe.0.varlen", False,
        "full: probe: variable-length attention: not used: the GPU is old",
    ),
    "memory kept": ("stages.align.memory_kept", 300 * 10**6, "align: memory given back: 300 MB kept, at most 200 MB"),
    "memory kept beside PyTorch's": (
        "stages.align.device_kept", 300 * 10**6,
        "align: memory given back, by the GPU's count: 300 MB kept, at most 200 MB",
    ),
    "more than a context": (
        "stages.elicit.device_kept", 1300 * 10**6,
        "elicit: memory given back, by the GPU's count: 1300 MB kept, at most 1200 MB",
    ),
    "a teacher on the CPU": ("/lora/loaded.regenerate.0.device", "cpu", "lora: regenerate: device: cpu, asked: cuda"),
    "a teacher in two precisions": ("/full/loaded.elicit.0.dtype", "float32", "full: elicit: precision: float32"),
    "a teacher in 4 bits after all": (
        "/lora/loaded.align.0.four_bit", [{"kind": "nf4", "double": True, "layers": 14}],
        "lora: align: not quantised: 14 layers in 4 bits",
    ),
    "an adapter of no effect": (
        "moved.align.relative", 1e-5, "qlora: the teacher's weights have moved: |Δw| / |w| 1e-05, at least 0.0001",
    ),
    "a student that has not moved": (
        "moved.sft.changed", 0.04, "the student's weights have changed: 4 % of them at a rate of 2e-05",
    ),
    "a student of whom nothing is known": ("moved.sft", None, "weights have changed: nothing is known of it"),
    "other replies": (
        "/replies/student.first_wrong", {"reply": 3, "token": 7, "margin": 2.5, "plain": "True", "engine": "False"},
        "replies of the student: 24 of 24 the same (near-ties: 0.01); reply 3 parts at token 7: 'False' for 'True'",
    ),
    "no figures": ("stages.align.memory", {}, "align: its memory: nothing is known of it"),
    "a stage too few": ("stages.evaluate", None, "every stage has been run: not run: evaluate"),
}  # fmt: skip


def test_a_gpu_that_does_all_of_it_passes(results):
    assert failures(check(on_a_gpu(results))) == ""


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_sane_is_said(what, results):
    place, value, said = WRONG[what]
    made = on_a_gpu(results)
    part, place = place[1:].split("/") if place.startswith("/") else ("qlora", place)
    *parents, last = (int(one) if one.isdigit() else one for one in place.split("."))
    block = made["replies"] if part == "replies" else made["loops"][part]
    for parent in parents:
        block = block[parent]
    if value is None:
        del block[last]
    else:
        block[last] = value
    assert said in failures(check(made))


def test_a_call_that_found_all_answers_there_is_no_failure(results):
    made = on_a_gpu(results)
    lora = made["loops"]["lora"]
    del lora["loaded"]["probe"]
    assert "lora: probe: its model: nothing is known of it" in failures(check(made))
    del lora["stages"]["probe"]["asked"]
    lora["stages"]["probe"]["memory"] = {}
    assert failures(check(made)) == ""


def test_the_table_has_it_all(results):
    made = on_a_gpu(results)
    made["checks"] = check(made)
    table = page(made, "###")
    for said in (
        "compute capability 9.0",
        "14 Linear4bit (nf4, double quantisation",
        "1.0 GB",
        "20 MB",
        "30 MB",
        "full: stages",
    ):
        assert said in table


def test_losses_of_a_resumed_training_are_all_there(tmp_path):
    for step, losses in ((2, [0.7, 0.6]), (10, [0.7, 0.6, 0.5])):
        (tmp_path / f"checkpoint-{step}").mkdir()
        history = [{"loss": loss} for loss in losses] + [{"train_runtime": 3.0}]
        (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert dpo_losses(tmp_path) == [0.7, 0.6, 0.5]
    assert dpo_losses(tmp_path / "none") == []


def test_a_nan_in_the_log_is_read_as_such(tmp_path):
    (tmp_path / "train.log").write_text(
        "{'loss': '0.5', 'ppl': '1'} {'loss': 'nan', 'grad_norm': 'nan'}\n{'loss': 4e-05}"
    )
    losses = logged_losses(tmp_path / "train.log")
    assert losses[0] == 0.5
    assert losses[1] != losses[1]
    assert losses[2] == 4e-5


def test_an_adapter_is_held_against_its_beginning(tmp_path):
    import torch
    from safetensors.torch import save_file

    beginning = {"a.lora_A.weight": torch.ones(2, 4), "a.lora_B.weight": torch.zeros(4, 2)}
    save_file(beginning, tmp_path / "adapter.safetensors")
    assert adapter_change(tmp_path / "adapter.safetensors") == {"changed": 0.0, "largest": 0.0}
    beginning["a.lora_B.weight"][0] = torch.tensor([0.5, float("nan")])
    save_file(beginning, tmp_path / "adapter.safetensors")
    found = adapter_change(tmp_path / "adapter.safetensors")
    assert found["changed"] == 0.25
    assert found["largest"] != found["largest"]


def test_a_command_ends_at_its_limit_with_all_that_it_started(tmp_path):
    log, child = tmp_path / "log", tmp_path / "child"
    # Neither listens to Ctrl-C.
    ignore = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    inner = f"{ignore}; import os; open({str(child)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    started = time.monotonic()
    assert run_limited([sys.executable, "-c", outer], log, 5.0) is None
    assert time.monotonic() - started < 60
    with pytest.raises(ProcessLookupError):
        until = time.monotonic() + 20
        while time.monotonic() < until:
            os.kill(int(child.read_text()), 0)
            time.sleep(0.1)
    assert run_limited([sys.executable, "-c", "print('one')"], log, None) == 0
    assert run_limited([sys.executable, "-c", "print('two'); exit(7)"], log, 30.0) == 7
    assert log.read_text().endswith("one\ntwo\n")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call gpu-check with a cheap loop in the place of Axolotl's: the first takes a minute, those after it no time.

    Only the first of the loops.
    """
    import torch  # noqa: F401  Not within a call's limit.

    for name in (*gpu_check.OFFLINE, "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # For it to be as it was, behind the test.
    ran = tmp_path / "ran"
    wait = "time.sleep(0 if ran.exists() or ran.write_text('x') is None else 60)"
    loop = f"import pathlib, time; ran = pathlib.Path({str(ran)!r}); {wait}; ran.write_text(ran.read_text() + 'x')"
    monkeypatch.setattr(gpu_check, "LOOP", [sys.executable, "-c", loop])
    monkeypatch.setattr(gpu_check, "MARGIN", 0.0)
    monkeypatch.setattr(gpu_check, "collect", lambda folder: {"stages": {}, "loaded": {}, "losses": {}, "adapter": {},
                                                              "outcomes": {}, "moved": {}})  # fmt: skip

    def run(*options):
        arguments = [
            "--device",
            "cpu",
            "--size",
            "small",
            "--model-student",
            str(TAUGHT),
            "--model-teacher",
            str(TAUGHT),
            "--part",
            "qlora",
        ]
        done = CliRunner().invoke(gpu_check.main, [*arguments, "--out", str(tmp_path / "out"), *options])
        return done.exit_code, done.output, ran.read_text() if ran.is_file() else ""

    return run


def test_a_call_goes_on_where_the_one_before_it_was_ended(call, tmp_path):
    code, said, ran = call("--limit", "5")
    assert (code, ran) == (3, "x"), said
    assert "the same call again goes on from here" in said
    # The loop is through now, but nothing that it should have left is there.
    code, said, ran = call("--limit", "60")
    assert (code, ran) == (1, "xx"), said
    assert "qlora: every stage has been run: not run: elicit" in said
    assert [one["ended"] for one in json.loads((tmp_path / "out/state.json").read_text())["calls"]] == [
        "limit",
        "finished",
    ]
    # A third call only looks at it again.
    assert call()[2] == "xx"
    code, said, _ = call("--attention", "eager")
    assert code == 1
    assert "name another --out" in said


def test_a_loop_that_fails_is_shown(call, monkeypatch):
    monkeypatch.setattr(gpu_check, "LOOP", [sys.executable, "-c", "print('why it failed'); exit(4)"])
    monkeypatch.setattr(gpu_check, "REPLIES", [sys.executable, "-c", "print('reached')"])
    code, said, _ = call("--part", "replies")
    assert code == 1
    assert "qlora ended with exit code 4; the end of" in said
    assert "why it failed" in said
    # What is behind it is run all the same, and the failure is the last word.
    assert "replies is running" in said
    assert "gpu-check: qlora ended with exit code 4 (" in said.splitlines()[-1]


def test_no_time_for_the_next_part_is_no_failure(call, monkeypatch):
    def run_limited(*_):
        monkeypatch.setattr(gpu_check, "MARGIN", 10**6)  # As if it had taken nearly all of it.
        return 0

    monkeypatch.setattr(gpu_check, "run_limited", run_limited)
    code, said, _ = call("--part", "replies", "--limit", "50")
    assert code == 3, said
    assert "the same call again goes on from here" in said


def test_a_model_that_is_not_there_is_named(call):
    code, said, _ = call("--model-student", "no/such/model")
    assert code == 1
    assert "there is no model in no/such/model: `arte demo-models models` writes the two" in said


def test_attention_is_chosen_with_a_reason_for_each_that_is_passed_over():
    chosen = choose_attention("cpu", [TAUGHT])
    assert chosen["used"] == "sdpa"
    assert set(chosen["passed_over"].values()) == {"there is no GPU"}
    try_layer("sdpa", "cpu", str(TAUGHT))
    with pytest.raises((ImportError, ValueError)):
        try_layer("flash_attention_2", "cpu", str(TAUGHT))


def test_what_an_attention_lacks(tmp_path, monkeypatch):
    def lacks(name, *capability):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
        return missing(name, "cuda")

    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "flash_attn"
    (package / "cute").mkdir(parents=True)
    (package / "__init__.py").touch()
    # flash-attn-4 alone: a part of the same package.
    assert lacks("flash_attention_2", 9, 0) == "the package flash-attn is not installed"
    assert lacks("flash_attention_4", 9, 0) == ""
    assert lacks("flash_attention_4", 8, 6).endswith("this device has 8.6")
    (package / "flash_attn_interface.py").touch()
    assert "Axolotl takes flash_attention_4 in its place" in lacks("flash_attention_2", 9, 0)
    assert lacks("flash_attention_2", 8, 6) == ""
    (package / "cute").rmdir()
    assert lacks("flash_attention_2", 9, 0) == ""
    assert lacks("flash_attention_4", 9, 0) == "the package flash-attn-4 is not installed"

    kernel = "kernels-community/flash-attn2"
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels/__init__.py").touch()
    monkeypatch.setenv("KERNELS_CACHE", str(tmp_path / "cache"))
    assert lacks(kernel, 9, 0) == "no build of it is in the local cache"
    (tmp_path / "cache/kernels--kernels-community--flash-attn2/snapshots/1/build/torch-cuda").mkdir(parents=True)
    assert lacks(kernel, 9, 0) == ""


def test_three_teachers_and_the_launchers_that_start_them(call, monkeypatch):
    commands = []
    monkeypatch.setattr(
        gpu_check, "run_limited", lambda command, log, left: log.touch() or commands.append(command) or 0
    )
    call("--part", "lora", "--part", "full", "--part", "replies")
    by_part = {Path(one[3]).stem: one[4:] for one in commands[:-1]}
    # Axolotl's default launcher decides otherwise than `python` on which device a model is loaded.
    assert by_part == {"qlora": ["--launcher", "python"], "lora": [], "full": []}
    assert commands[-1][2:5] == ["benchmarks.gpu_check.same_replies", str(Path(commands[-1][3])), "cpu"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("loop", LOOPS)
def test_every_loop_is_a_config_that_a_run_takes(loop, device, tmp_path):
    config = loop_config(device, "full", TAUGHT, TAUGHT, "kernels-community/flash-attn2", tmp_path, loop)
    checked = check_config(config)
    check_it_trains({**config, **missing_keys(config, 1)})
    assert config["attn_implementation"] == ("sdpa" if loop == "full" else "kernels-community/flash-attn2")
    assert (config.get("adapter"), config.get("load_in_4bit")) == {
        "qlora": ("qlora", True), "lora": ("lora", None), "full": (None, None),
    }[loop]  # fmt: skip
    # The others are small whatever is asked for; all of them train at the recipe's rates.
    assert checked.arte.elicit.questions == (40 if loop == "qlora" else 8)
    assert ("learning_rate" in config) == (loop == "full")
    assert "learning_rate" not in config["arte"]["student"]["sft"]
    assert bool(config.get("bf16")) == (device == "cuda")
