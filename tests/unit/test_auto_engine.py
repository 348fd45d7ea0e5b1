"""`engine: {kind: auto}`: who is served on which machine."""

import shutil

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.check import check_config
from arte_plugin.config.engines import ServerEngineArgs, TransformersEngineArgs
from arte_plugin.models import auto_engine, serving
from arte_plugin.models.auto_engine import Choice, Machine, choose

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
    assert check_config(cfg).arte.engine.model_dump() == engine.model_dump()


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


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"lora_modules_to_save": ["lm_head"]}, "lora_modules_to_save"),
        ({"peft_init_lora_weights": "pissa"}, "peft_init_lora_weights"),
        ({"peft_init_lora_weights": False}, ""),
        ({"peft_init_lora_weights": "gaussian"}, ""),
        ({"peft": {"loftq_config": {"loftq_bits": 4}}}, "peft.loftq_config"),
        ({"lora_target_parameters": ["mlp.experts.gate_up_proj"]}, "lora_target_parameters"),
        ({"peft_trainable_token_indices": [5, 6]}, "peft_trainable_token_indices"),
        ({"lora_target_modules": ["q_proj", "lm_head"]}, "lora_target_modules"),
        ({"lora_target_modules": ["q_proj"]}, ""),
    ],
)  # fmt: skip
def test_an_adapter_that_a_server_would_refuse_once_it_is_trained_is_told_before(more, key):
    choice = chosen(machine("vllm"), {**LORA, **more})
    assert bool(choice.teacher) == (not key)
    assert not key or f"a server can't be given its adapter (`{key}`)" in choice.why["teacher"]
