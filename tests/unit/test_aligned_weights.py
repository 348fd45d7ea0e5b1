"""What trainings leave, loaded or refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from arte_plugin.errors import ConfigError, StageError
from arte_plugin.training import aligned_weights
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config_only(model, tmp_path) -> Path:
    """A folder as Axolotl makes it before it trains."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((model / name).read_bytes())
    return folder


def test_a_config_alone_is_no_teacher(config_only):
    assert not aligned_weights.are_there(config_only, adapter=False)
    with pytest.raises(StageError, match="only its config"):
        aligned_weights.make_whole(config_only, adapter=False, timeout=1)


def test_a_shard_that_is_missing_is_noticed(model, config_only):
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(config_only, max_shard_size="100KB")
    shards = sorted(config_only.glob("model-*.safetensors"))
    assert len(shards) > 1 and aligned_weights.are_there(config_only, adapter=False)
    shards[0].unlink()
    assert not aligned_weights.are_there(config_only, adapter=False)


def test_deepspeed_pieces_are_told(config_only):
    (config_only / "global_step7").mkdir()
    assert aligned_weights.are_there(config_only, adapter=False)
    with pytest.raises(StageError, match=r"zero_to_fp32\.py") as caught:
        aligned_weights.make_whole(config_only, adapter=False, timeout=1)
    assert str(config_only / "global_step7") in str(caught.value)


@pytest.fixture
def adapter(model, tmp_path) -> Path:
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model),
        LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False),
    )
    tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_as_peft_writes_it_is_fine(adapter):
    assert aligned_weights.are_there(adapter, adapter=True)
    aligned_weights.make_whole(adapter, adapter=True, timeout=1)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.replace("base_model.model.", "base_model.model._fsdp_wrapped_module."),
    ],
    ids=["FSDP2 in Axolotl", "sharded checkpoint", "FSDP1"],
)
def test_names_that_loading_would_pass_over_are_put_right(model, adapter, rename):
    file = adapter / "adapter_model.safetensors"
    before = load_file(file)
    renamed = {rename(name): value for name, value in before.items()}
    assert renamed.keys() != before.keys()
    save_file(renamed, file)
    passed_over = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), adapter)
    with pytest.raises(StageError, match="would be the unaligned one"):
        aligned_weights.check_loaded(passed_over, adapter)

    aligned_weights.make_whole(adapter, adapter=True, timeout=1)
    assert load_file(file).keys() == before.keys()
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), adapter)
    aligned_weights.check_loaded(loaded, adapter)
    assert all(torch.equal(value, before[name]) for name, value in get_peft_model_state_dict(loaded).items())


def test_what_axolotl_gathers_under_fsdp2_is_what_is_loaded(model, tmp_path):
    """Axolotl 0.21 gives it PEFT's names by itself."""
    from axolotl.integrations.expert_parallel.shard import save_fsdp2_lora_adapter

    base = AutoModelForCausalLM.from_pretrained(model)
    # As TRL puts the adapter on: Axolotl goes on with what is below.
    get_peft_model(base, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert save_fsdp2_lora_adapter(base, str(tmp_path))
    file = tmp_path / "adapter_model.safetensors"
    gathered = load_file(file)
    aligned_weights.make_whole(tmp_path, adapter=True, timeout=1)
    assert len(load_file(file)) == len(gathered) > 0
    assert all(name.startswith("base_model.model.model.layers.") for name in load_file(file))


def test_an_adapters_config_alone_is_no_teacher(adapter):
    (adapter / "adapter_model.safetensors").unlink()
    assert json.loads((adapter / "adapter_config.json").read_text())
    assert not aligned_weights.are_there(adapter, adapter=True)
    with pytest.raises(StageError, match="No weights of the aligned teacher's adapter"):
        aligned_weights.make_whole(adapter, adapter=True, timeout=1)


SHARDED = {"fsdp_version": 2, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}, "save_strategy": "no"}


def test_a_training_that_would_leave_nothing_is_refused():
    with pytest.raises(ConfigError, match="leaves no weights"):
        aligned_weights.refuse_pieces_without_checkpoint(SHARDED)


@pytest.mark.parametrize(
    "change",
    [
        {"save_strategy": "steps"},
        {"adapter": "lora"},
        {"fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT", "final_state_dict_type": "FULL_STATE_DICT"}},
        {"fsdp_config": None},
    ],
)
def test_others_are_not(change):
    aligned_weights.refuse_pieces_without_checkpoint(SHARDED | change)
