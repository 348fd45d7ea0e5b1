"""How fast `arte plan` takes a model to be: by who runs it, in what precision, and how large it is."""

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from transformers import LlamaConfig

from arte_plugin.cli import cli
from arte_plugin.config.arte import ArteArgs
from arte_plugin.plan import rates
from arte_plugin.plan.rates import POINTS, Rate, rate_of

ROOT = Path(__file__).parents[2]
RANKS = {"measured": 0, "published": 1, "estimated": 2}


def block(**changes) -> ArteArgs:
    tasks = [{"name": "one", "description": "Do it.", "questions": {"path": "hub/data"}}]
    return ArteArgs.model_validate({"student": {"base_model": "hub/student"}, "tasks": tasks, **changes})


def planned(example: str, tmp_path: Path, monkeypatch, *options: str, **changes) -> tuple[str, dict[str, float]]:
    """What `arte plan` says of a recipe, and its GPU-hours for each kind of call."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "600")
    cfg = yaml.safe_load((ROOT / "yaml_examples" / f"{example}.yaml").read_text()) | changes
    path = tmp_path / "arte.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in cfg.items() if value is not None}))
    done = CliRunner().invoke(cli, ["plan", str(path), *options])
    assert done.exit_code == 0, done.output
    calls = done.output.split("\n\n")[0].splitlines()[2:]
    cells = [re.split(r"\s{2,}", line.rstrip()) for line in calls]
    return done.output, {row[1]: float(row[-1].replace(",", "")) for row in cells if row[0] != "all"}


def test_a_plan_knows_precision_and_engine(tmp_path, monkeypatch):
    said, packed = planned("24gb-qlora", tmp_path, monkeypatch)
    assert "teacher 15,000 and 3,000 (8B, nf4, transformers: estimated)" in said
    assert "(1.7B, bfloat16, transformers: estimated)" in said
    _, plain = planned("24gb-qlora", tmp_path, monkeypatch, load_in_4bit=None, adapter="lora")
    # The same calls, of a model that need not be unpacked.
    assert plain["tailored rationales"] < packed["tailored rationales"]
    assert plain["probes"] == packed["probes"]
    said, _ = planned("vllm-server", tmp_path, monkeypatch)
    assert "(8B, bfloat16, vllm: published)" in said


def test_rates_of_ones_own_go_before(tmp_path, monkeypatch):
    said, hours = planned("24gb-qlora", tmp_path, monkeypatch, "--student-rates", "500", "100")
    assert "student 500 and 100." in said and "teacher 15,000 and 3,000 (8B" in said
    _, assumed = planned("24gb-qlora", tmp_path, monkeypatch)
    assert hours["probes"] > 10 * assumed["probes"]
    assert hours["rationales"] == assumed["rationales"]


@pytest.mark.parametrize("kind", POINTS, ids="-".join)
def test_figures_are_sound(kind):
    sizes = [one.parameters for one in POINTS[kind]]
    assert sizes == sorted(set(sizes))
    for one in POINTS[kind]:
        # A larger model is no faster, and prompts pass faster than replies are written.
        assert one.prompts > one.replies > 0
        assert rate_of(*kind, one.parameters).prompts == pytest.approx(one.prompts)
        assert rate_of(*kind, one.parameters).source == one.source
    for small, large in zip(POINTS[kind], POINTS[kind][1:], strict=False):
        assert small.prompts > large.prompts and small.replies > large.replies
        between = rate_of(*kind, (small.parameters * large.parameters) ** 0.5)
        assert between.replies == pytest.approx((small.replies * large.replies) ** 0.5)
        assert RANKS[between.source] >= max(RANKS[small.source], RANKS[large.source])
    smallest, largest = POINTS[kind][0], POINTS[kind][-1]
    assert rate_of(*kind, smallest.parameters / 5).replies == smallest.replies
    twice = rate_of(*kind, 2 * largest.parameters)
    assert (twice.prompts, twice.source) == (pytest.approx(largest.prompts / 2), "estimated")


@pytest.mark.parametrize("precision", ["bfloat16", "nf4"])
def test_every_engine_has_a_rate_for_every_precision(precision):
    for engine in ("transformers", "vllm", "sglang", "openai"):
        assert rate_of(engine, precision, 8e9).replies > 0
    assert rate_of("transformers", "nf4", 8e9).replies < rate_of("transformers", "bfloat16", 8e9).replies
    assert rate_of("transformers", "float16", 8e9).replies == rate_of("transformers", "bfloat16", 8e9).replies
    assert rate_of("transformers", "float32", 2e9).replies < rate_of("transformers", "bfloat16", 2e9).replies


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8e9),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.7e9),
        ("google/gemma-2-2b", 2e9),
        ("unsloth/gemma-3-270m", 270e6),
        ("Qwen/Qwen2.5-32B-Instruct", 32e9),
        ("models/teacher", None),
        ("org8b/model", None),
        ("gpt2", None),
        ("my-4bit-model", None),
    ],
)
def test_a_size_is_in_most_names(name, expected):
    assert rates.size_by_name(name) == expected


def test_students_share_the_probes():
    small, large = rate_of("transformers", "bfloat16", 135e6), rate_of("transformers", "bfloat16", 8e9)
    both = rates.student_rate([("a", 135e6, "bfloat16"), ("b", 8e9, "bfloat16")], block())
    # A token of each takes as long as two of the mean.
    assert 2 / both.replies == pytest.approx(1 / small.replies + 1 / large.replies)
    assert "135M" in both.of and "8B" in both.of
    assert rates.student_rate([("a", None, "bfloat16")], block()).of.startswith("2B")


def test_a_teacher_on_several_gpus_has_one_of_them_at_work():
    cfg = {"bf16": True}
    alone = rates.teacher_rate("x", 8e9, cfg, block())
    # One of the four that its training is spread over holds it.
    assert rates.teacher_rate("x", 8e9, cfg, block(), spread=4) == alone
    spread = rates.teacher_rate("x", 70e9, cfg, block(), spread=8)
    assert spread.replies == pytest.approx(rate_of("transformers", "bfloat16", 70e9).replies / 8)
    # It is trained with float32 weights, and writes in bfloat16.
    float32 = {"bf16": False, "plugins": ["arte_plugin.ArtePlugin", "arte_plugin.Float32Weights"]}
    assert rates.teacher_rate("x", 8e9, float32, block()) == alone
    # 140 GB of weights don't lie on one.
    large = rates.teacher_rate("x", 70e9, cfg, block())
    assert large.replies == pytest.approx(rate_of("transformers", "bfloat16", 70e9).replies / 3)
    assert "a share of 3 GPUs" in large.of
    packed = rates.teacher_rate("x", 70e9, {"bf16": True, "adapter": "qlora", "load_in_4bit": True}, block())
    assert (packed.replies, "share" in packed.of) == (400, False)
    served = block(engine={"kind": "server", "api": "vllm", "teacher": {"base_urls": ["http://a/v1"]}})
    # vLLM's figure for this size is a GPU's share already.
    assert rates.teacher_rate("x", 70e9, cfg, served, spread=8).replies == 600


def test_float32_weights_of_a_student_are_in_the_plan(tmp_path, monkeypatch):
    """Weights, gradients and two moments: 16 bytes a weight, and what autocast makes of the linear layers."""
    config = LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    file = tmp_path / "config.json"
    config.to_json_file(file, use_diff=False)
    from arte_plugin.config.check import check_config
    from arte_plugin.plan.make import make_plan

    monkeypatch.chdir(ROOT)
    cfg = yaml.safe_load((ROOT / "yaml_examples/24gb-qlora.yaml").read_text())
    needs = {}
    for optimizer in ("adamw_torch_fused", "optimi_adamw"):
        cfg["arte"]["student"]["sft"] |= {"optimizer": optimizer, "sequence_len": 16, "micro_batch_size": 1}
        args = check_config(json.loads(json.dumps(cfg))).arte
        names = {cfg["base_model"], *(one.base_model for one in args.students)}
        made = make_plan(cfg, args, 1, {name: str(file) for name in names})
        needs[optimizer] = next(one for one in made.needs if one.step == "the student's training")
        assert made.float32_students == (optimizer != "optimi_adamw")
    full, kahan = needs["adamw_torch_fused"], needs["optimi_adamw"]
    parameters = full.weights / 4
    assert full.kept == pytest.approx(8 * parameters)
    assert full.most >= 16 * parameters
    assert kahan.weights == pytest.approx(2 * parameters) and kahan.kept == pytest.approx(6 * parameters)


def test_a_rate_says_what_it_is_of():
    assert str(Rate(5, 1, "given")) == "5 and 1"
    assert str(rate_of("transformers", "bfloat16", 135e6)) == (
        "60,000 and 10,000 (135M, bfloat16, transformers: estimated)"
    )
