"""What a loaded model is said to be, of real 4-bit weights: bitsandbytes has a CPU path."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from arte_plugin.engines.transformers import TransformersEngine
from arte_plugin.models.loaded import describe_model
from tests.taught import TAUGHT


def load(**settings):
    return AutoModelForCausalLM.from_pretrained(TAUGHT, attn_implementation="sdpa", **settings)


def test_a_plain_model():
    found = describe_model(load(dtype=torch.bfloat16))
    assert found == {
        "attention": "sdpa", "dtype": "bfloat16", "device": "cpu", "parameters": 362368, "linear": {"Linear": 14},
        "adapted": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "double"), [("nf4", True), ("fp4", False)])
def test_4_bit_weights_and_an_adapter_on_them(kind, double):
    wanted = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double)
    model = load(quantization_config=wanted)
    four_bit = [{"kind": kind, "double": double, "block": 64, "layers": 14}]
    # As many parameters as without quantisation: two of them share a byte, but count.
    quantised = {"linear": {"Linear4bit": 14}, "four_bit": four_bit, "parameters": 362368, "adapted": 0}
    assert describe_model(model).items() >= quantised.items()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    found = describe_model(adapted)
    assert (found["linear"], found["four_bit"], found["adapted"]) == ({"Linear4bit": 14}, four_bit, 4)
    assert found["parameters"] > 362368


def test_a_model_is_described_as_it_was_before_it_was_used():
    """On a CPU bitsandbytes packs the weights anew when they are first used, and the double quantisation is gone."""
    from transformers import AutoTokenizer

    from arte_plugin.engines.base import Request

    wanted = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    engine = TransformersEngine(load(quantization_config=wanted), AutoTokenizer.from_pretrained(TAUGHT))
    engine.generate([Request(prompt="not True is", group="g", max_new_tokens=2, temperature=0.0, seed=0)])
    assert engine.describe()["four_bit"] == [{"kind": "nf4", "double": True, "block": 64, "layers": 14}]
    assert engine.describe()["varlen"] is False
