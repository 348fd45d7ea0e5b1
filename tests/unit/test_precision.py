"""The precision of the student's full fine-tuning: updates are kept where there is room, and it is said where not."""

import importlib.util

import pytest
from transformers import LlamaConfig

from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import ConfigError
from arte_plugin.plan.shapes import shape_of
from arte_plugin.plan.training_memory import training_need
from arte_plugin.training import child, precision
from arte_plugin.training.precision import FLOAT32_WEIGHTS, KAHAN, check_installed, keeps_updates

BF16 = {"base_model": "student", "bf16": True, "sequence_len": 512, "optimizer": "adamw_torch"}


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with 24 GB, and a training that takes as many as are said."""

    def make(needed, optimi=False):
        monkeypatch.setattr(precision, "_memory", lambda: 24 * 2**30)
        monkeypatch.setattr(precision, "_need", lambda config: needed and needed * 2**30)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if optimi else None)

    return make


def test_float32_weights_where_they_fit(gpu):
    gpu(needed=20)
    assert keeps_updates(BF16, {}) == FLOAT32_WEIGHTS


def test_without_a_gpu_and_for_a_model_that_is_not_here(gpu):
    assert keeps_updates(BF16, {}) == FLOAT32_WEIGHTS
    gpu(needed=None)
    assert keeps_updates(BF16, {}) == FLOAT32_WEIGHTS


def test_kahan_summation_where_they_do_not(gpu):
    gpu(needed=23, optimi=True)
    assert keeps_updates(BF16, {}) == KAHAN
    # An optimizer that was asked for stays.
    assert keeps_updates(BF16, {"optimizer": "adamw_torch"}) == {}


def test_what_the_yaml_says_of_plugins_and_optimizer_stays(gpu):
    liger = "axolotl.integrations.liger.LigerPlugin"
    assert keeps_updates(BF16, {"plugins": [liger]})["plugins"] == [liger, *FLOAT32_WEIGHTS["plugins"]]
    gpu(needed=23, optimi=True)
    assert keeps_updates(BF16, {"adam_beta2": 0.95}) == {"optimizer": "optimi_adamw"}


def test_a_warning_where_neither_can_be_had(gpu, caplog):
    gpu(needed=30)
    assert keeps_updates(BF16, {}) == {}
    assert "rounded away: float32 weights would take 30 GiB of this GPU's 24" in caplog.text
    assert "pip install arte-plugin[kahan]" in caplog.text


@pytest.mark.parametrize(
    "more", [{"adapter": "lora"}, {"deepspeed": "zero2.json"}, {"optimizer": "optimi_adamw"}, {"bf16": False}]
)
def test_where_nothing_is_lost_nothing_changes(more):
    assert keeps_updates(BF16 | more, {}) == {}


@pytest.mark.parametrize("key", ["bf16", "fp16", "bfloat16", "float32"])
def test_a_precision_that_the_yaml_gives_the_student_stays(key):
    assert keeps_updates(BF16, {key: True}) == {}


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_goes_by_the_gpu(has_bf16, monkeypatch):
    monkeypatch.setattr(child, "has_bf16", lambda: has_bf16)
    assert bool(keeps_updates(BF16 | {"bf16": "auto"}, {})) == has_bf16


def test_what_they_take_is_planned(tmp_path):
    config = LlamaConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    shape = shape_of("student", tmp_path / "config.json")
    bare, whole = (training_need("", shape, BF16 | more, 1, 128, dpo=False) for more in ({}, FLOAT32_WEIGHTS))
    assert whole.weights == 2 * bare.weights
    assert whole.kept == 2 * bare.kept
    # Float32 gradients, and bfloat16 copies of the linear layers' weights.
    assert whole.usual >= bare.usual + 2 * shape.linear


@pytest.mark.parametrize("installed", [True, False])
def test_an_optimizer_that_is_missing_is_missed_at_once(installed, gpu):
    gpu(needed=20, optimi=installed)
    students = [StudentArgs(base_model="s"), StudentArgs(base_model="s", sft={"optimizer": "optimi_adamw"})]
    if installed:
        check_installed(students)
    else:
        with pytest.raises(ConfigError, match=r'pip install "arte-plugin\[kahan\]"'):
            check_installed(students)
