"""The quickstart's student, out of its GGUF: a plain model, whichever transformers made it."""

import json

import torch
from transformers import AutoModelForCausalLM

from arte_plugin.models import demo


def test_a_model_from_a_gguf_is_saved_as_a_plain_one(tmp_path):
    made = demo._plain_model(demo._gguf_file())
    made.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert type(again) is type(made) and not hasattr(again, "hf_quantizer")
    weights = again.state_dict()
    assert weights.keys() == made.state_dict().keys()
    for name, value in made.state_dict().items():
        assert value.dtype == torch.bfloat16 and torch.equal(value, weights[name]), name
    # Unpacked: blocks would be bytes of another shape.
    assert weights["model.layers.0.mlp.up_proj.weight"].shape == (1536, 576)
