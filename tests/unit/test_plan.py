"""`arte plan`: calls by hand, memory against real tensors, and what a person sees at the terminal."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from click.testing import CliRunner
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Gemma2Config, GemmaConfig, LlamaConfig

from arte_plugin.cli import cli
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.check import check_config
from arte_plugin.data.tasks import load_task
from arte_plugin.engines import varlen_attention
from arte_plugin.engines.base import TokenRequest
from arte_plugin.engines.in_flight import Row, families
from arte_plugin.engines.plain_attention import PlainAttention
from arte_plugin.engines.transformers import MOST_ROWS, MOST_VARLEN_ROWS, TransformersEngine
from arte_plugin.engines.varlen_attention import VarlenAttention
from arte_plugin.errors import ConfigError
from arte_plugin.language.prompts import question_prompt, solve_prompt
from arte_plugin.language.rendering import Renderer
from arte_plugin.plan import calls, disk, lengths, memory, shapes, sizes, trace, work
from arte_plugin.plan.make import make_plan, probing_dtype, student_training
from arte_plugin.plan.rates import Rate
from arte_plugin.plan.text import as_text
from benchmarks.plan_memory.check import allocated_peak
from tests.taught import TAUGHT

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "yaml_examples").glob("*.yaml"))

#: Published architectures, by what stands for them in the examples.
LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8,
)  # fmt: skip
SMOLLM2 = LlamaConfig(
    vocab_size=49152, hidden_size=2048, intermediate_size=8192, num_hidden_layers=24, num_attention_heads=32,
    num_key_value_heads=32, tie_word_embeddings=True,
)  # fmt: skip
GEMMA_2B = GemmaConfig(
    vocab_size=256000, hidden_size=2048, intermediate_size=16384, num_hidden_layers=18, num_attention_heads=8,
    num_key_value_heads=1, head_dim=256,
)  # fmt: skip


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch):
    """In the repository's folder, where the paths in the examples begin."""
    monkeypatch.chdir(ROOT)


def block(**changes) -> ArteArgs:
    tasks = [{"name": "one", "description": "Do it.", "questions": {"path": "hub/data"}}]
    return ArteArgs.model_validate({"student": {"base_model": "hub/student"}, "tasks": tasks, **changes})


def counted(args: ArteArgs, **more) -> dict[str, float]:
    task = {"questions": 250, "techniques": 4, "validation": 100, "size": 40, "shots": [0, 1, 2, 3], "examples": 250}
    planned = calls.works(args, [work.Sizes(**{**task, "test": 140, "seeds": 10, **more})])
    return {one.what: one.calls for one in planned}


def shape(config, folder: Path) -> shapes.Shape:
    file = folder / "config.json"
    config.to_json_file(file, use_diff=False)
    return shapes.shape_of("stand-in", file)


# --- Calls ------------------------------------------------------------------------------------------------------------


def test_calls_of_the_papers_sizes_for_one_task():
    assert counted(block()) == {
        "draft questions": 63,
        "rationales": 1000,
        "respondents": 400,
        "probes": 40_000,
        # By the aligned teacher, and by the one that is not; of 300 pairs 30 are held out, and 50 others looked at.
        "check: question replies": 2 * 10,
        "check: rationales": 2 * 40,
        "check: pairs": 4 * (30 + 50),
        "check: probes": 2 * 40 * 60,
        "tailored questions": 2 * 63,
        "tailored rationales": 2 * 250,
        "evaluation": 2 * 3 * 140,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"probe": {"budget": "racing"}}, {"probes": 20_000}),
        ({"probe": {"budget": "racing", "racing": {"share": 0.1}}}, {"probes": 12_000}),
        ({"preference_set": {"consistency_questions": 10}}, {"consistency": 10 * 4 * 60}),
        ({"preference_set": {"method": "random"}}, {"respondents": None}),
        ({"student": [{"base_model": "a/x"}, {"base_model": "a/y"}]}, {"probes": 80_000, "evaluation": 2 * 6 * 140}),
        ({"evaluate": {"shots": [0], "limit": 10}}, {"evaluation": 3 * 10}),
        ({"seeds": [1, 2, 3]}, {"evaluation": 2 * 7 * 140}),
        ({"align": {"check": False}}, {"check: probes": None, "check: rationales": None}),
        ({"align": {"check_questions": 5, "held_out": 0}}, {"check: probes": 2 * 5 * 60, "check: pairs": 4 * 50}),
        ({"preference_set": {"method": "all"}}, {}),
        ({"from_run": "out"}, {"check: probes": None}),
        ({"arms": ["arte"]}, {"tailored questions": 63, "tailored rationales": 250, "evaluation": 2 * 2 * 140}),
        ({"arms": ["arte"], "seeds": [1, 2, 3]}, {"evaluation": 2 * 4 * 140}),
        # Two arms with the same rows: one student; and nobody writes anything for them.
        ({"arms": ["original_teacher", "most_preferred"]}, {"evaluation": 2 * 2 * 140, "tailored rationales": None}),
        ({"arms": ["arte", "question_only", "rationale_only"]}, {"tailored rationales": 750, "tailored questions": 63}),
        ({"pair": {"drafts": "d", "scores": "s"}}, {"rationales": None, "probes": None, "tailored rationales": 500}),
        ({"regenerate": {"questions": 30}}, {}),
        (
            {"probe": {"ask_again": True}},
            {"probes": 40_000, "probes, asked again": 8000, "respondents, asked again": 80,
             "evaluation, asked again": pytest.approx(0.2 * 2 * 3 * 140)},
        ),
        (
            {"probe": {"ask_again": True, "score": "likelihood"}},
            {"probes, asked again": None, "evaluation, asked again": pytest.approx(168)},
        ),
        ({"regenerate": {"keep": "majority", "samples": 3}}, {"rationales that vote": 2 * 250 * 3}),
        ({"elicit": {"worked_examples": True}}, {"worked examples": 10}),
        ({"elicit": {"worked_examples": True}, "pair": {"drafts": "d", "scores": "s"}}, {"worked examples": 10}),
        ({"regenerate": {"keep": "agrees_with_target"}}, {"rationales that vote": None}),
    ],
)  # fmt: skip
def test_calls_follow_the_yaml(changes, expected):
    found = counted(block(**changes))
    assert {what: found.get(what) for what in expected} == expected


def test_the_check_takes_no_more_than_15_percent_of_the_probes():
    found = counted(block())
    assert sum(calls for what, calls in found.items() if what.startswith("check")) <= 0.15 * found["probes"]
    assert counted(block(), questions=8)["check: rationales"] == 2 * 8


def test_drafts_as_respondents_are_not_asked_again_in_stage_3():
    piloted = counted(block(preference_set={"pilot_drafts": 30}), shots=[])
    assert "respondents" not in piloted
    assert (piloted["pilot"], piloted["probes"]) == (30 * 100, 1000 * 40 - 30 * 40)
    racing = counted(block(preference_set={"pilot_drafts": 30}, probe={"budget": "racing"}), shots=[])
    assert (racing["pilot"], racing["probes"]) == (3000, 20_000)
    likelihoods = block(preference_set={"pilot_drafts": 30}, probe={"score": "likelihood"})
    assert counted(likelihoods, shots=[])["probes"] == 40_000
    assert "pilot" not in counted(block(preference_set={"pilot_drafts": 30, "method": "random"}))


def test_likelihoods_are_read_and_not_written():
    task = work.Sizes(10, 2, 20, 5, [0], 10)
    [probes] = [one for one in calls.works(block(probe={"score": "likelihood"}), [task]) if one.what == "probes"]
    assert (probes.calls, probes.new, probes.most) == (100, 0, 0)


def test_shared_part_is_computed_once_for_a_draft():
    task = work.Sizes(10, 2, 20, 5, [0], 10)
    [probes] = [one for one in calls.works(block(), [task]) if one.what == "probes"]
    of = task.student
    shared, own = of.before + of.question + of.frame + of.rationale, of.question + of.frame
    assert probes.asked == pytest.approx(100 * (shared + own))
    assert probes.computed == pytest.approx(20 * shared + 100 * (own + 8))
    assert probes.hours(Rate(100.0, 10.0, "given")) == pytest.approx((probes.computed / 100 + probes.new / 10) / 3600)


def test_assumed_lengths_are_the_measured_ones():
    tokens = json.loads((ROOT / "benchmarks/lengths/results.json").read_text())["tokens"]
    of = lengths.ASSUMED
    assert (of.question, of.before, of.question_prompt, of.written_question, of.technique) == tuple(
        tokens[name]
        for name in (
            "question", "probe, before the draft", "question prompt", "a written question",
            "technique prompt, without the question",
        )
    )  # fmt: skip
    assert of.frame == tokens["probe, beside the questions"] / 2
    assert of.shot == pytest.approx(of.question + of.frame + of.rationale)
    weighed = json.loads((ROOT / "benchmarks/lengths/results.json").read_text())["bytes"]
    assert disk.Bytes() == disk.Bytes(
        probe=weighed["a probe, without its response"],
        cached=weighed["a cached request, without its text"],
        draft=weighed["a draft"],
        token=weighed["text, a token"],
    )


def test_measured_lengths_add_up_to_real_prompts():
    cfg = yaml.safe_load((ROOT / "yaml_examples/quickstart-cpu.yaml").read_text())
    args = ArteArgs.model_validate(cfg["arte"]).tasks[0]
    task = load_task(args, 42)
    renderer = Renderer(AutoTokenizer.from_pretrained(TAUGHT), "auto")
    assert renderer.style == "chat"

    def tokens(text: str) -> int:
        return len(renderer.tokenizer(renderer.prompt(text), add_special_tokens=False)["input_ids"])

    of = lengths.measured(args, task, renderer, 3, 5)
    shown = [(one.question, one.target) for one in task.seeds[:3]]
    assert of.chat + of.question_prompt == pytest.approx(tokens(question_prompt(args.description, shown, 5)), abs=2)
    asked = [tokens(solve_prompt(args.description, args.answer, one.question)) for one in task.validation]
    mean = sum(asked) / len(asked)
    assert of.chat + of.before + of.frame + of.question == pytest.approx(mean, rel=0.05)


def test_replies_are_no_longer_than_they_may_be():
    cfg = yaml.safe_load((ROOT / "yaml_examples/quickstart-cpu.yaml").read_text())
    cfg["arte"]["student"]["base_model"] = str(TAUGHT)
    args = ArteArgs.model_validate(cfg["arte"])
    found = sizes.sizes_of(args, str(TAUGHT))
    assert (found.read, found.without_tokenizer) == (1, [])
    assert all(one.student.reply == 64 and one.teacher.rationale == 150 for one in found.tasks)
    assert [(one.validation, one.size, one.test) for one in found.tasks] == [(16, 8, 30)]


# --- Weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_those_of_a_loaded_model(dtype):
    loaded = AutoModelForCausalLM.from_pretrained(TAUGHT, dtype=getattr(torch, dtype))
    buffers = sum(one.numel() * one.element_size() for one in loaded.buffers())
    planned = shapes.shape_of("taught", shapes.find_config(str(TAUGHT))).weights(dtype)
    assert planned == loaded.get_memory_footprint() - buffers


@pytest.mark.parametrize("double", [True, False])
def test_weights_in_4_bits_are_those_of_a_loaded_model(double):
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    loaded = AutoModelForCausalLM.from_pretrained(TAUGHT, dtype=torch.bfloat16, quantization_config=quantised)
    held = float(loaded.get_memory_footprint())
    for module in loaded.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        for one in (state, getattr(state, "state2", None)):
            held += one.absmax.numel() * one.absmax.element_size() if one is not None else 0
    cfg = {"adapter": "qlora", "load_in_4bit": True, "bnb_config_kwargs": {"bnb_4bit_use_double_quant": double}}
    planned = shapes.shape_of("taught", shapes.find_config(str(TAUGHT))).weights("bfloat16", memory.packing(cfg))
    assert planned == pytest.approx(held, rel=0.02)


def test_parameters_of_published_architectures(tmp_path):
    assert shape(LLAMA_8B, tmp_path).parameters == 8_030_261_248
    assert shape(GEMMA_2B, tmp_path).parameters == 2_506_172_416
    smollm2 = shape(SMOLLM2, tmp_path)
    assert smollm2.parameters == 1_711_376_384
    # Keys and values of 24 layers and 32 heads of 64, in two bytes.
    assert smollm2.token_bytes == 2 * 24 * 32 * 64 * 2


# --- Training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_step_without_data_holds_what_a_real_one_does(kind, checkpointing, tmp_path):
    """PyTorch's own account of its allocator, around a real step of a small model."""
    config = LlamaConfig(
        vocab_size=2048, hidden_size=128, intermediate_size=384, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4,
    )  # fmt: skip
    cfg = {"micro_batch_size": 2, "sequence_len": 192, "gradient_checkpointing": checkpointing}
    need = memory.training_need("", shape(config, tmp_path), cfg, 1, 192, dpo=kind == "dpo")

    model, reference = (AutoModelForCausalLM.from_config(config, attn_implementation="sdpa") for _ in range(2))
    reference.requires_grad_(False)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss = trace.dpo_loss if kind == "dpo" else trace.sft_loss
    ids = torch.randint(2048, (4 if kind == "dpo" else 2, 192))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as account:
        loss(model, reference, ids, False).backward()
    # Of so small a model a copy of the logits is a fifth; benchmarks/plan_memory has real trainers on a real model.
    assert need.longest == pytest.approx(allocated_peak(account, tmp_path / "trace.json"), rel=0.25)
    moments = 2 * sum(one.numel() * 4 for one in model.parameters())
    assert need.kept == moments + (need.weights if kind == "dpo" else 0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "keys", [{}, {"adapter": "lora", "lora_target_linear": True}, {"gradient_accumulation_steps": 4}]
)
def test_two_layers_and_three_tell_of_all(keys, checkpointing, tmp_path, monkeypatch):
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    cfg = {**keys, "bf16": True, "sequence_len": 128, "gradient_checkpointing": checkpointing}
    small = shape(config, tmp_path)
    for dpo in (True, False):
        by_few = memory.training_need("", small, cfg, 1, 128, dpo=dpo)
        with monkeypatch.context() as patch:
            # A stack whose layers can't be told is traced whole; the marks between the parts don't matter then.
            patch.setattr(trace, "layers_of", lambda model: None)
            whole = memory.training_need("", small, cfg, 1, 128, dpo=dpo)
        assert by_few.most == pytest.approx(whole.most, rel=0.01)


def test_what_makes_a_training_smaller(tmp_path):
    config = LlamaConfig(
        vocab_size=4096, hidden_size=512, intermediate_size=1024, num_hidden_layers=12, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    model = shape(config, tmp_path)
    full = {"bf16": True, "optimizer": "adamw_torch", "sequence_len": 64, "micro_batch_size": 2}
    lora = {**full, "adapter": "lora", "lora_r": 16, "lora_target_linear": True}
    qlora = {**lora, "adapter": "qlora", "load_in_4bit": True}

    def most(cfg, gpus=1):
        return memory.training_need("", model, cfg, gpus, 64, dpo=True).most

    assert most(full) > most(lora) > most(qlora) > most({**qlora, "gradient_checkpointing": True})
    assert most(full) > most({**full, "optimizer": "adamw_bnb_8bit"})
    sharded = {**full, "fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}
    assert most(sharded, 4) < most(full, 4) / 2
    zero3 = {**full, "deepspeed": "yaml_examples/deepspeed/zero3.json"}
    offloaded = {**full, "deepspeed": "yaml_examples/deepspeed/zero3-offload-optimizer.json"}
    assert most(full, 4) > most(zero3, 4) > most(offloaded, 4)


def test_teacher_of_a_sharded_training_writes_from_one_gpu_that_holds_it_and_else_from_all(tmp_path, monkeypatch):
    cfg = yaml.safe_load((ROOT / "yaml_examples/multi-gpu-fsdp.yaml").read_text())
    args = check_config(cfg).arte
    file = tmp_path / "config.json"
    LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    ).to_json_file(file, use_diff=False)  # fmt: skip
    configs = {cfg["base_model"]: str(file)}
    writing, training = make_plan(cfg, args, 1, configs).needs
    of_four = make_plan(cfg, args, 4, configs).needs
    assert [one.step for one in of_four] == ["the teacher at work", "the teacher's training"]
    assert [one.weights for one in of_four] == [writing.weights, training.weights / 4]
    monkeypatch.setattr(memory, "ROOM", writing.weights / 2)
    of_four = make_plan(cfg, args, 4, configs).needs
    assert [one.weights for one in of_four] == [writing.weights / 4, training.weights / 4]
    # Nothing bounds keys and values, so they may take a share of what its weights leave of a GPU.
    assert (writing.stage, writing.fills, training.stage, training.fills) == ("elicit", True, "align", False)
    assert writing.of(80e9) == writing.weights + (80e9 - writing.weights) * 0.6
    assert training.of(80e9) == training.most


def test_what_is_trained_with_float32_weights_writes_in_bfloat16(tmp_path):
    """As the training computes (`placement.as_computed`); the students are asked in what the GPU has."""
    cfg = yaml.safe_load((ROOT / "yaml_examples/multi-gpu-zero2.yaml").read_text()) | {"deepspeed": None}
    file = tmp_path / "config.json"
    LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    ).to_json_file(file, use_diff=False)  # fmt: skip
    plugins = ["arte_plugin.ArtePlugin", "arte_plugin.Float32Weights"]
    weights = {}
    for name, keys in {"half": {}, "float32": {"bf16": False, "plugins": plugins}}.items():
        args = check_config(cfg | keys).arte
        configs = {one: str(file) for one in (cfg["base_model"], args.students[0].base_model)}
        needs = make_plan(cfg | keys, args, 1, configs).needs
        weights[name] = {one.step: one.weights for one in needs}
    for step in ("the teacher at work", "the student at work", "the student's evaluation"):
        assert weights["float32"][step] == weights["half"][step]
    assert weights["float32"]["the teacher's training"] == 2 * weights["half"]["the teacher's training"]


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [("adamw_torch", 4), ("adamw_torch_fused", 4), ("paged_adamw_32bit", 8), ("adamw_bnb_8bit", 2), ("sgd", 0),
     ("paged_adamw_8bit", 2), ("lion_8bit", 1), ("lion_32bit", 4), ("adafactor", 0.1), ("unheard_of", 4)],
)  # fmt: skip
def test_bytes_of_optimizers_for_a_number_in_bfloat16(optimizer, expected):
    assert memory.optimizer_bytes(optimizer, 2) == expected


def test_students_training_has_the_papers_recipe_and_what_the_yaml_says():
    cfg = yaml.safe_load((ROOT / "yaml_examples/24gb-qlora.yaml").read_text())
    [student] = ArteArgs.model_validate(cfg["arte"]).students
    keys = student_training(cfg, student)
    assert (keys["micro_batch_size"], keys["gradient_accumulation_steps"], keys["optimizer"]) == (4, 2, "optimi_adamw")
    assert keys["gradient_checkpointing"] is True and "adapter" not in keys and "load_in_4bit" not in keys
    assert probing_dtype(student, cfg) == "bfloat16"


# --- Writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "budget", "vocabulary"),
    # All rows fit; the budget is less than what they would take; the logits let fewer be in flight; it isn't one row's.
    [(8, 1e9, 300), (60, 1e5, 32), (60, 4e5, 300), (8, 2e3, 300)],
)
def test_plan_counts_what_the_engine_takes_with_variable_length_attention(
    count, budget, vocabulary, tmp_path, monkeypatch
):
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(TAUGHT)
    engine = TransformersEngine(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16), tokenizer, budget)
    engine._varlen = True
    rows = [
        Row(TokenRequest("", str(i), 9, 0.0, 0, tokens=tuple([i + 1] * 20)), tokenizer, [], i, None)
        for i in range(count)
    ]
    slots, held = engine._attention([row for family in families(rows) for row in family.rows])
    assert (held.prefill, held.chunk) == (VarlenAttention.prefill,) * 2
    monkeypatch.setattr(memory, "_reading", lambda *given: 0.0)
    planned = memory.writing_need("", "", shape(config, tmp_path), {}, "bfloat16", count, budget, (20, 4, 9))
    # The pool grows for a row that would be alone.
    logits, taken = 4 * 4 * slots * vocabulary, max(held._pool.size, 29) * engine._token_bytes
    assert planned.usual == planned.longest
    if 1 < slots < count and taken < 0.9 * budget:
        # With a prefix of their own, rows that wait have a place in the pool as well.
        assert taken <= planned.usual - logits <= budget
    else:
        assert planned.usual - logits == pytest.approx(taken, abs=engine._token_bytes)
    # Of all requests of a stage nobody knows how many prefixes there are: the budget is full.
    planned = memory.writing_need("", "", shape(config, tmp_path), {}, "bfloat16", None, 1e9, (20, 4, 9))
    assert planned.usual == 1e9 + 4 * 4 * MOST_VARLEN_ROWS * vocabulary


def test_plan_passes_as_many_prompt_tokens_as_the_attention_of_the_engine(tmp_path, monkeypatch):
    """And as many rows; the plain attention stays in float32, with capped scores and with heads that are too wide."""
    passed: list[int] = []
    monkeypatch.setattr(memory, "_reading", lambda *given: float(passed.append(given[-1]) or 0))

    def usual(dtype="bfloat16", rows=None, **keys) -> float:
        few = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 64}
        made = shape(Gemma2Config(vocab_size=512, intermediate_size=64, **{"head_dim": 16, **few, **keys}), tmp_path)
        passed.clear()
        return memory.writing_need("", "", made, {}, dtype, rows, 8 * memory.GIB, (600, 50, 50)).usual

    scores = 3 * 4 * 4 * PlainAttention.prefill * PlainAttention.chunk
    own = {"float32": 650 * MOST_ROWS["cuda"] * 4 * 4 * 2 * 16 * 2}
    own["bfloat16"] = own["float32"] / 2
    free = {"attn_logit_softcapping": None}
    for dtype, keys in (("float32", free), ("bfloat16", {}), ("bfloat16", {**free, "head_dim": 264})):
        width = keys.get("head_dim", 16) / 16
        assert usual(dtype, **keys) == own[dtype] * width + max(scores, 4 * 4 * MOST_ROWS["cuda"] * 512)
        assert set(passed) == {PlainAttention.prefill}
    assert usual(**free) == 8 * memory.GIB + 4 * 4 * MOST_VARLEN_ROWS * 512
    assert set(passed) == {VarlenAttention.prefill} == {VarlenAttention.chunk}
    assert usual(**free, rows=2) == 2 * 650 * own["bfloat16"] / 650 / MOST_ROWS["cuda"] + 4 * 4 * 2 * 512
    assert set(passed) == {2 * 600}


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_what_variable_length_attention_holds_of_a_prompt(kv_heads, monkeypatch):
    """By the operations of the engine's own layer behind a prefix, on tensors without data."""
    heads, width, tokens = 4, 64, 512
    query, key, value = (
        torch.empty(1, one, tokens, width, dtype=torch.bfloat16, device=trace.META)
        for one in (heads, kv_heads, kv_heads)
    )

    def flash(query, key, value, given, scaling, causal=False, window=None):
        return torch.empty_like(query), query.new_empty(query.shape[1], query.shape[0], dtype=torch.float32)

    monkeypatch.setattr(varlen_attention, "_flash", flash)
    engine = VarlenAttention(tokens)
    monkeypatch.setattr(engine, "_store", lambda layer, key, value: (key, value))
    group = heads // kv_heads
    calls = SimpleNamespace(tokens=tokens * group, blind=None)
    monkeypatch.setattr(engine, "_sequences", lambda *given: (calls, calls))
    engine._step = SimpleNamespace(longest=tokens, highest=2 * tokens)
    held = {}
    for name, attend in (
        ("engine", lambda: engine.attend(0, query, key, value, 1.0, None, None)),
        ("plan", lambda: trace._split(None, query, key, value)),
    ):
        with torch.no_grad(), trace.Counter([query, key, value]) as counter:
            attend()
        held[name] = counter.peaks["top"]
    assert held["plan"] == pytest.approx(held["engine"], rel=0.1)
    assert held["engine"] > 2 * query.numel() * 4


# --- At the terminal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_has_a_plan(example, tmp_path):
    """Its models are on the Hub; small ones stand for them."""
    cfg = yaml.safe_load(example.read_text())
    args = check_config(cfg).arte
    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    config.to_json_file(tmp_path / "config.json", use_diff=False)
    respondents = [one.base_model for one in args.preference_set.respondents]
    names = {cfg["base_model"], *(one.base_model for one in args.students), *respondents}
    made = make_plan(cfg, args, 4, {name: str(tmp_path / "config.json") for name in names})
    assert made.missing == []
    assert all(one.calls > 0 and one.asked >= one.computed * 0.9 for one in made.works)
    assert all(math.isfinite(one.most) and one.most >= one.total > 0 for one in made.needs)
    printed = as_text(made, args)
    assert max(map(len, printed.splitlines())) <= 100
    assert any("the teacher's training" in one.step for one in made.needs) or args.from_run
    assert printed.rstrip().endswith("GiB.")


def test_command_says_it_all_for_models_that_are_here(tmp_path):
    cfg = yaml.safe_load((ROOT / "yaml_examples/quickstart-cpu.yaml").read_text())
    cfg["base_model"] = cfg["arte"]["student"]["base_model"] = str(TAUGHT)
    path = tmp_path / "arte.yaml"
    path.write_text(yaml.safe_dump(cfg))
    done = CliRunner().invoke(cli, ["plan", str(path), "--student-rates", "5", "1"])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "measured on the questions of 1 of 1 tasks." in shown
    assert "probe probes student 320 " in shown
    assert "student 5 and 1" in shown
    assert "Fits one GPU with 8 GB, whatever comes" in shown


def test_model_that_is_not_here_is_told_and_the_calls_are_still_shown():
    done = CliRunner().invoke(cli, ["plan", "yaml_examples/24gb-qlora.yaml"])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "80,000" in shown
    assert "--config-of meta-llama/Llama-3.1-8B-Instruct=FILE" in shown
    assert "No model's size is known" in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model": "./nowhere"}, "There is no config.json in ./nowhere"),
        ({"rl": "kto"}, "set `rl: dpo`"),
    ],
)
def test_bad_input_gets_one_message(changes, message, tmp_path):
    cfg = yaml.safe_load((ROOT / "yaml_examples/quickstart-cpu.yaml").read_text()) | changes
    cfg["arte"]["student"]["base_model"] = str(TAUGHT)
    path = tmp_path / "arte.yaml"
    path.write_text(yaml.safe_dump(cfg))
    done = CliRunner().invoke(cli, ["plan", str(path)])
    assert done.exit_code == 1
    assert message in done.output and "Traceback" not in done.output


def test_config_that_is_no_language_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(ConfigError, match="does not describe a causal language model"):
        shapes.shape_of("x", shapes.find_config(str(tmp_path)))
    assert AutoConfig.from_pretrained(TAUGHT).model_type == "llama"


def test_config_of_wants_a_model_and_a_file():
    done = CliRunner().invoke(cli, ["plan", "yaml_examples/24gb-qlora.yaml", "--config-of", "nonsense"])
    assert done.exit_code == 1 and "MODEL=FILE" in done.output
