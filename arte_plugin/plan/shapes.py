"""Models as shapes: found here or in the Hub's cache, never downloaded, and never any weights."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arte_plugin.errors import ConfigError

#: Bytes of a number.
SIZES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}

#: Bytes of a weight in 4 bits (NF4): a scale for each 64 of them, in float32, or in 8 bits with scales of their own.
NF4, NF4_DOUBLE = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256)
#: In 8 bits: a scale for each row, which is next to nothing.
INT8 = 1.0


class NotHere(ConfigError):
    """A model of the Hub whose config.json is not in its cache here."""


@dataclass(frozen=True)
class Shape:
    """What a model's config.json says of its size."""

    name: str
    #: transformers' config.
    config: Any
    parameters: int
    #: Of these, those of linear layers other than the output layer: what is quantised.
    linear: int
    #: Bytes of keys and values of a token, at 2 bytes a number.
    token_bytes: int

    @property
    def text(self) -> Any:
        """The config of the language model, where others stand beside it."""
        return self.config.get_text_config(decoder=True)

    def with_layers(self, count: int) -> Any:
        """The config with so many layers, the first ones."""
        config = copy.deepcopy(self.config)
        text = config.get_text_config(decoder=True)
        text.num_hidden_layers = count
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:count]
        return config

    def weights(self, dtype: str, quantised: float | None = None) -> float:
        """Bytes of all weights; `quantised` is what a weight of a linear layer takes, where that is another."""
        return self.parameters * SIZES[dtype] - (self.linear * (SIZES[dtype] - quantised) if quantised else 0.0)


def find_config(name: str, revision: str | None = None) -> Path:
    """The config.json of a model directory or of a repository in the Hub's cache.

    Raises `NotHere` for a repository that is not there, `ConfigError` for a directory without one.
    """
    folder = Path(name).expanduser()
    file = folder if folder.is_file() else folder / "config.json"
    if file.is_file():
        return file
    if folder.is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ConfigError(f"There is no config.json in {name} (seen from {Path.cwd()}).")
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(cached, str):
        raise NotHere(
            f"{name} is neither a directory nor in the Hub's cache here, and a plan downloads nothing: of its memory "
            f"nothing can be said. Its config.json is all that it takes: `hf download {name} config.json`, or "
            f"`--config-of {name}=FILE` with that of a model of the same size."
        )
    return Path(cached)


def shape_of(name: str, file: Path) -> Shape:
    """Raises `ConfigError` for a config.json that transformers can't make a causal language model of."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(file), trust_remote_code=False)
        model = on_meta(config, "float32")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ConfigError(f"{file} does not describe a causal language model: {str(error).splitlines()[0]}") from error
    text = config.get_text_config(decoder=True)
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    return Shape(
        name=name,
        config=config,
        parameters=sum(one.numel() for one in model.parameters()),
        linear=sum(layer.weight.numel() for _, layer in inner_linears(model)),
        token_bytes=4 * text.num_hidden_layers * kv_heads * width,
    )


def on_meta(config: Any, dtype: str, attention: str | None = None) -> Any:
    """The model without numbers."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        more = {"attn_implementation": attention} if attention else {}
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), trust_remote_code=False, **more)


def inner_linears(model: Any) -> list[tuple[str, Any]]:
    """The linear layers by name, without the output layer: what quantisation and `lora_target_linear` mean."""
    import torch

    head = model.get_output_embeddings()
    return [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    ]
