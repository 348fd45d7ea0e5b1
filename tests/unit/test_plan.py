"""`arte plan`: the whole of it, and what a person sees at the terminal."""

import math
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from transformers import AutoConfig, LlamaConfig

from arte_plugin.cli import cli
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.check import check_config
from arte_plugin.errors import ConfigError
from arte_plugin.plan import (
    machine,
    shapes,
)
from arte_plugin.plan.make import make_plan, probing_dtype, student_training
from arte_plugin.plan.text import as_text
from tests.taught import TAUGHT

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "yaml_examples").glob("*.yaml"))
#: The paths in the examples begin in the repository's folder.
pytestmark = pytest.mark.usefixtures("in_the_repository")


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
    monkeypatch.setattr(machine, "ROOM", writing.weights / 2)
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


def test_students_training_has_the_papers_recipe_and_what_the_yaml_says():
    cfg = yaml.safe_load((ROOT / "yaml_examples/24gb-qlora.yaml").read_text())
    [student] = ArteArgs.model_validate(cfg["arte"]).students
    keys = student_training(cfg, student)
    assert (keys["micro_batch_size"], keys["gradient_accumulation_steps"], keys["optimizer"]) == (4, 2, "optimi_adamw")
    assert keys["gradient_checkpointing"] is True and "adapter" not in keys and "load_in_4bit" not in keys
    assert probing_dtype(student, cfg) == "bfloat16"


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
