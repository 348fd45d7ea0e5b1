"""A later round trains on from the adapter of the round before, and takes that for the reference."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import DPOConfig, DPOTrainer

from arte_plugin.errors import StageError
from arte_plugin.plugin import ArtePlugin
from arte_plugin.training.adapters import in_float32, train_on, training
from tests.taught import TAUGHT

LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
ROWS = [{"prompt": "True or False is", "chosen": " True", "rejected": " False"}] * 2


def base():
    return AutoModelForCausalLM.from_pretrained(TAUGHT)


@pytest.fixture
def earlier(tmp_path):
    """An adapter that does something."""
    torch.manual_seed(0)
    model = get_peft_model(base(), LORA)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=0.02)
    model.save_pretrained(tmp_path / "earlier")
    return tmp_path / "earlier"


def make_trainer(folder, lora=LORA, model=None, **more):
    """As Axolotl makes one: on the base, with a fresh adapter."""
    settings = {"learning_rate": 1e-3, "bf16": False, "gradient_checkpointing": False} | more
    args = DPOConfig(
        output_dir=str(folder), per_device_train_batch_size=2, max_steps=2, report_to=[], logging_steps=1,
        save_strategy="no", use_cpu=True, disable_tqdm=True, **settings,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(TAUGHT)
    rows = Dataset.from_list(ROWS)
    return DPOTrainer(model or base(), args=args, train_dataset=rows, processing_class=tokenizer, peft_config=lora)


def weights(model, adapter):
    return {
        name.replace(f".{adapter}.", "."): one.detach().clone()
        for name, one in model.named_parameters()
        if f".{adapter}." in name
    }


def test_it_goes_on_from_the_adapter_with_that_as_the_reference(earlier, tmp_path):
    trainer = make_trainer(tmp_path)
    train_on(trainer, earlier)
    there = weights(PeftModel.from_pretrained(base(), earlier), "default")
    for adapter in ("default", "ref"):
        found = weights(trainer.model, adapter)
        assert found.keys() == there.keys()
        assert all(torch.equal(found[name], one) for name, one in there.items())
    trainer.train()
    # Where TRL took the bare base for the reference, the two would differ from the first step on.
    first = trainer.state.log_history[0]
    assert first["rewards/chosen"] == first["rewards/rejected"] == 0.0
    trained, reference = weights(trainer.model, "default"), weights(trainer.model, "ref")
    assert all(torch.equal(reference[name], one) for name, one in there.items())
    assert any(not torch.equal(trained[name], one) for name, one in there.items())


def test_what_is_saved_is_the_trained_one(earlier, tmp_path):
    trainer = make_trainer(tmp_path)
    train_on(trainer, earlier)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    saved = weights(PeftModel.from_pretrained(base(), tmp_path / "saved"), "default")
    trained = weights(trainer.model, "default")
    assert saved.keys() == trained.keys()
    assert all(torch.equal(saved[name], one) for name, one in trained.items())


def test_an_adapter_on_other_layers_is_refused(earlier, tmp_path):
    other = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    with pytest.raises(StageError, match="doesn't fit what this YAML trains"):
        train_on(make_trainer(tmp_path, other), earlier)


def test_an_adapter_of_another_rank_is_refused(earlier, tmp_path):
    other = LoraConfig(r=2, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    with pytest.raises(StageError, match="doesn't fit what this YAML trains"):
        train_on(make_trainer(tmp_path, other), earlier)


def in_4_bits():
    """bitsandbytes has a CPU path."""
    wanted = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return AutoModelForCausalLM.from_pretrained(TAUGHT, dtype=torch.bfloat16, quantization_config=wanted)


#: As in the GPU recipes.
QLORA = {"bf16": True, "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}


@pytest.mark.parametrize("float32", [True, False], ids=["float32", "as TRL leaves it"])
def test_on_4_bit_weights_a_small_rate_moves_all_of_the_adapter(float32, tmp_path):
    trainer = make_trainer(tmp_path, model=in_4_bits(), learning_rate=1e-6, warmup_steps=0, **QLORA)
    plugin = ArtePlugin()
    plugin._run = SimpleNamespace(trains_on=None) if float32 else None
    plugin.post_trainer_create({"adapter": "qlora", "load_in_4bit": True}, trainer)
    # What a base in 4 bits has beside it is quantised or as it was.
    frozen = {name: one.dtype for name, one in trainer.model.named_parameters() if not one.requires_grad}
    assert set(frozen.values()) == {torch.uint8, torch.bfloat16}
    before = weights(trainer.model, "default")
    assert {one.dtype for one in before.values()} == {torch.float32 if float32 else torch.bfloat16}
    trainer.train()
    after = weights(trainer.model, "default")
    moved = [(after[name] != one).float().mean().item() for name, one in before.items() if "lora_A" in name]
    # B is zero at first, so A's first gradient is: one of the two steps moves it.
    assert (min(moved) > 0.9) == float32
    assert (max(moved) < 0.2) == (not float32)
    assert torch.isfinite(torch.tensor(trainer.state.log_history[-1]["train_loss"]))


def test_what_is_trained_in_pieces_is_left_to_its_own_float32(tmp_path):
    trainer = make_trainer(tmp_path, model=in_4_bits(), **QLORA)
    in_float32(trainer, {"adapter": "qlora", "load_in_4bit": True, "fsdp_config": {"reshard_after_forward": True}})
    assert {one.dtype for one in weights(trainer.model, "default").values()} == {torch.bfloat16}


def test_only_a_quantised_teacher_is_aligned_anew_for_it():
    assert training({"adapter": "lora"}) == training({"load_in_4bit": True}) == {}
    assert training({"adapter": "qlora", "load_in_4bit": True}) == {"adapter_weights": "float32"}
