"""`engine: {kind: auto}`: who is served on which machine, and that a run stays with what it began with."""

import json
import shutil

import pytest
import torch
import yaml
from click.testing import CliRunner

from arte_plugin import auto_engine, serving
from arte_plugin.args import ArteArgs
from arte_plugin.auto_engine import Choice, Machine, choose, settled
from arte_plugin.cli import cli
from arte_plugin.config_check import check_config
from arte_plugin.engine_args import ServerEngineArgs, TransformersEngineArgs
from arte_plugin.errors import ConfigError
from arte_plugin.manifest import Count, Manifest
from arte_plugin.run import Run
from tests.taught import TASK, TAUGHT

GB = 10**9
LORA = {"base_model": "org/teacher-8B", "adapter": "lora", "lora_r": 20, "bf16": True}
CALLS = {"student": 90_000, "teacher": 8_000}


def make_args(student=None, **more) -> ArteArgs:
    task = {"name": "t", "description": "d", "questions": {"path": "q"}}
    given = {"student": student or {"base_model": "org/student-2B"}, "tasks": [task], "engine": {"kind": "auto"}}
    return ArteArgs.model_validate({**given, **more})


def machine(*programs: str, gpus: int = 1, memory: int = 80, numbered: bool = True) -> Machine:
    return Machine(gpus, memory * GB, programs.__contains__, numbered)


def chosen(on: Machine, cfg=LORA, args=None, calls=CALLS) -> Choice:
    return choose(args or make_args(), cfg, on, calls, lambda student: "bfloat16")


def test_vllm_that_is_found_serves_both_where_there_is_enough_to_ask():
    args = make_args(engine={"kind": "auto", "concurrency": 99, "rank_timeout": 77})
    choice = chosen(machine("vllm/bin/vllm", "sglang"), args=args)
    engine = choice.engine(args.engine)
    assert isinstance(engine, ServerEngineArgs)
    assert (engine.api, engine.concurrency, engine.rank_timeout) == ("vllm", 99, 77)
    assert engine.student.command == (
        "vllm/bin/vllm serve {model} --port {port} --dtype bfloat16 --enable-prefix-caching --max-model-len auto "
        "--gpu-memory-utilization 0.85"
    )
    # vLLM makes room for certain ranks only.
    assert engine.teacher.adapter_options == (
        "--enable-lora --max-lora-rank 32 --lora-modules {adapter_name}={adapter}"
    )
    assert choice.line() == (
        "engine auto: student on vLLM (vllm/bin/vllm), for its 90,000 requests to come, where 5,000 make up for its "
        "start; teacher on vLLM (vllm/bin/vllm), for its 8,000 requests to come, where 5,000 make up for its start"
    )


def test_what_comes_out_passes_for_a_config_that_a_person_wrote():
    args = make_args()
    engine = chosen(machine("sglang")).engine(args.engine)
    assert engine.student.command == "sglang serve --model-path {model} --port {port} --dtype bfloat16"
    written = engine.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    cfg = {
        **LORA, "rl": "dpo", "plugins": ["arte_plugin.ArtePlugin"],
        "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
        "arte": {**args.model_dump(mode="json", include={"tasks"}), "student": {"base_model": "x"}, "engine": written},
    }  # fmt: skip
    cfg["arte"]["tasks"] = [{"name": "t", "description": "d", "questions": {"path": "q"}}]
    assert check_config(cfg).arte.engine == engine


@pytest.mark.parametrize(
    ("on", "cfg", "calls", "who", "why"),
    [
        (machine("vllm", gpus=0), LORA, CALLS, "", "there is no GPU"),
        (machine(), LORA, CALLS, "", "no vLLM or SGLang is found"),
        (machine("vllm"), LORA, {**CALLS, "teacher": 4_999}, "student", "4,999 requests to come don't make up"),
        (machine("vllm"), LORA, {**CALLS, "student": 10}, "teacher", "10 requests to come don't make up"),
        (machine("vllm"), {**LORA, "adapter": "qlora", "load_in_4bit": True}, CALLS, "student", "it is quantised"),
        (machine("vllm"), {**LORA, "load_in_8bit": True}, CALLS, "student", "it is quantised"),
        (machine("vllm"), {**LORA, "gptq": True}, CALLS, "student", "it is quantised"),
        (machine("vllm"), {**LORA, "peft_use_dora": True}, CALLS, "student", "can't be given its adapter"),
        (machine("vllm"), {**LORA, "lora_r": 1024}, CALLS, "student", "rank is more than 512"),
        (machine("vllm"), {"base_model": "t", "bf16": True, "plugins": ["arte_plugin.Float32Weights"]}, CALLS,
         "student", "trained with float32 weights"),
    ],
)  # fmt: skip
def test_our_own_engine_does_the_rest_and_says_why(on, cfg, calls, who, why):
    args = make_args()
    choice = chosen(on, cfg, args, calls)
    engine = choice.engine(args.engine)
    for role in ("student", "teacher"):
        args.engine = engine
        assert (serving.served_by(args, role, "org/student-2B") is not None) == (role == who)
        assert ("in this process" in choice.line().split("; ")[role == "teacher"]) == (role != who)
    if not who:
        assert isinstance(engine, TransformersEngineArgs)
    assert why in choice.line()


def test_a_teacher_in_full_has_no_adapter_and_likelihoods_are_ours():
    choice = chosen(machine("vllm"), {"base_model": "t", "bf16": True})
    assert choice.teacher and "adapter_options" not in choice.teacher
    choice = chosen(machine("vllm"), args=make_args(probe={"score": "likelihood"}))
    assert choice.student is None and "probe.score: likelihood" in choice.why["student"]


def test_gpus_have_a_server_each_and_a_large_teacher_takes_several():
    choice = chosen(machine("vllm", gpus=8), {**LORA, "base_model": "org/teacher-70B"})
    assert choice.student["replicas"] == 8
    assert choice.student["command"].startswith("env CUDA_VISIBLE_DEVICES={replica} vllm serve {model}")
    # 140 GB on cards with 80.
    assert choice.teacher["command"].endswith("--tensor-parallel-size 4 --data-parallel-size 2")
    assert "replicas" not in choice.teacher
    # Cards that this process sees under other numbers than their own.
    choice = chosen(machine("vllm", gpus=2, numbered=False))
    assert choice.student["command"].endswith("--data-parallel-size 2")


def test_a_revision_and_the_checkpoint_s_own_code_are_passed_on():
    student = {"base_model": "org/student-2B", "revision": "v2", "trust_remote_code": True}
    choice = chosen(machine("vllm"), args=make_args(student))
    assert "--revision {revision} --trust-remote-code" in choice.student["command"]


# --- A run stays with it ----------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    return Manifest(tmp_path / "manifest.json")


def never() -> Choice:
    raise AssertionError("it is chosen already")


def test_a_run_stays_with_what_it_began_with(manifest):
    first = chosen(machine("vllm"))
    manifest.enter_engine(auto_engine.as_entered(first))
    # What is finished later leaves it there.
    manifest.record("elicit", {}, [Count("rows", 1, 1)], {}, 1.0)
    assert settled(make_args(), manifest, never, found=lambda program: True) == first
    assert json.loads(manifest.path.read_text())["engine"]["program"] == "vllm"
    with pytest.raises(ConfigError, match="began with vLLM for its student and teacher, and its command, vllm, is not"):
        settled(make_args(), manifest, never, found=lambda program: False)


def test_a_run_that_began_without_a_server_goes_on_without_one(manifest):
    manifest.enter_engine(auto_engine.as_entered(chosen(machine())))
    choice = settled(make_args(), manifest, never, found=lambda program: True)
    assert choice.student is None and choice.teacher is None


def test_a_run_from_before_auto_stays_with_its_engine(manifest):
    manifest.record("elicit", {"model": {"engine": "transformers"}}, [], {}, 1.0)
    assert settled(make_args(), manifest, never).line().count("as this run began") == 2
    manifest.record("probe", {"students": [{"model": {"engine": "server", "api": "vllm"}}]}, [], {}, 1.0)
    with pytest.raises(ConfigError, match="began with the servers that its YAML named"):
        settled(make_args(), manifest, never)


@pytest.fixture
def config(tmp_path, tiny_cfg):
    def write(**arte):
        cfg = {**tiny_cfg, "output_dir": str(tmp_path / "out")}
        cfg["arte"] = {**cfg["arte"], "engine": {"kind": "auto", "from_requests": 100}, **arte}
        path = tmp_path / "arte.yaml"
        path.write_text(yaml.safe_dump(cfg))
        return path

    return write


@pytest.fixture
def tiny_cfg(tmp_path):
    questions = tmp_path / "questions.jsonl"
    rows = [{"question": f"not {i} < {j}", "answer": str(not i < j)} for i in range(8) for j in range(8)]
    questions.write_text("\n".join(map(json.dumps, rows)))
    return {
        "base_model": str(TAUGHT),
        "rl": "dpo",
        "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
        "plugins": ["arte_plugin.ArtePlugin"],
        "arte": {
            "student": {"base_model": str(TAUGHT)},
            "tasks": [
                {
                    "name": TASK, "description": "Say whether it holds.", "answer": "boolean",
                    "questions": {"path": str(questions)}, "seed_questions": 8, "validation_questions": 12,
                    "test_questions": 12,
                }
            ],
        },
        "adapter": "lora",
        "micro_batch_size": 1,
        "sequence_len": 512,
        "bf16": False,
        "fp16": False,
    }  # fmt: skip


@pytest.fixture
def with_vllm(monkeypatch):
    """One GPU and a vLLM, as far as a choice goes."""
    there = {"vllm"}
    monkeypatch.setattr(auto_engine, "finds", there.__contains__)
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: machine(*there)))
    return there


def test_validate_and_plan_say_beforehand_and_the_run_does_it(config, with_vllm, tmp_path):
    path = str(config())
    said = "student on vLLM (vllm), for its 12,048 requests to come, where 100 make up"
    assert not (tmp_path / "out").exists()
    validated = CliRunner().invoke(cli, ["validate", path])
    assert said in validated.output, validated.output
    planned = CliRunner().invoke(cli, ["plan", path])
    assert said in planned.output, planned.output
    assert "GPU-hours in place of" in planned.output
    assert "A server runs the student" in planned.output
    # To look is not to begin.
    assert Manifest(tmp_path / "out/arte/manifest.json").engine() is None

    run = Run(yaml.safe_load(config().read_text()))
    assert said in run.chosen.line()
    assert run.args.engine.student.command.startswith("vllm serve")
    # It goes on the same, with other sizes and another program beside it.
    with_vllm.add("sglang")
    again = Run(yaml.safe_load(config(elicit={"questions": 1}).read_text()))
    assert again.args.engine == run.args.engine
    with_vllm.clear()
    with pytest.raises(ConfigError, match="vllm, is not found here"):
        Run(yaml.safe_load(config().read_text()))
    refused = CliRunner().invoke(cli, ["plan", path])
    assert refused.exit_code != 0 and "is not found here" in refused.output
    # And as told.
    told = Run(yaml.safe_load(config(engine={"kind": "transformers"}).read_text()))
    assert told.args.engine.kind == "transformers"


def test_this_machine_s_own_run(config, tmp_path):
    """Nothing patched: on a CPU it comes to our own engine, whatever is installed."""
    run = Run(yaml.safe_load(config().read_text()))
    if not torch.cuda.is_available():
        assert run.args.engine.kind == "transformers" and "there is no GPU" in run.chosen.line()
    assert Manifest(tmp_path / "out/arte/manifest.json").engine()["why"] == run.chosen.why


def test_a_program_is_found_as_a_shell_would(tmp_path, monkeypatch):
    program = tmp_path / "vllm/bin/vllm"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    assert not auto_engine.finds("vllm/bin/vllm")
    program.chmod(0o755)
    assert auto_engine.finds("vllm/bin/vllm") and not auto_engine.finds("no-such-vllm")
    monkeypatch.setenv("PATH", str(program.parent))
    assert auto_engine.finds("vllm") and shutil.which("vllm")


def test_another_kind_is_told_with_what_there_is():
    with pytest.raises(ValueError, match="`transformers`, `auto` or `server`"):
        make_args(engine={"kind": "automatic"})
    with pytest.raises(ValueError, match="programs"):
        make_args(engine={"kind": "auto", "programs": ["llama-server"]})
