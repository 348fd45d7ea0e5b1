"""A later round trains on from the adapter of the round before, and takes that for the reference."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from arte_plugin.adapters import train_on
from arte_plugin.errors import StageError
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


def make_trainer(folder, lora=LORA):
    """As Axolotl makes one: on the base, with a fresh adapter."""
    args = DPOConfig(
        output_dir=str(folder), per_device_train_batch_size=2, learning_rate=1e-3, max_steps=2, report_to=[],
        logging_steps=1, save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(TAUGHT)
    return DPOTrainer(
        base(), args=args, train_dataset=Dataset.from_list(ROWS), processing_class=tokenizer, peft_config=lora
    )


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
