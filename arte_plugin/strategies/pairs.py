"""The teacher's DPO data set: `type: arte_plugin.preference_pairs`, rows of `PreferencePair`."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from arte_plugin.rendering import PromptStyle, Renderer
from arte_plugin.rows import PreferencePair

_KEPT = ("prompt", "chosen", "rejected")


def preference_pairs(
    cfg: Any, dataset_idx: int = 0, **kwargs: Any
) -> tuple[Callable[..., dict[str, str]], dict[str, Any]]:
    """What Axolotl calls: how to render a pair for the teacher, and how to map it over the data set.

    Axolotl hands the tokenizer to the function that is returned, because that has a parameter of this name.
    """
    teacher = (cfg.get("arte") or {}).get("teacher") or {}
    removed = [f.name for f in dataclasses.fields(PreferencePair) if f.name not in _KEPT]
    return partial(render_pair, prompt_style=teacher.get("prompt_style") or "auto"), {"remove_columns": removed}


def render_pair(pair: Mapping[str, Any], tokenizer: Any, prompt_style: PromptStyle) -> dict[str, str]:
    """`prompt`, `chosen` and `rejected` inside the teacher's chat template, for TRL to tokenise.

    TRL tokenises the prompt and each completion as one text and lets the tokenizer add its BOS, so there is none here;
    it adds EOS only where a completion does not end in it.
    """
    renderer = Renderer(tokenizer, prompt_style)
    return {
        "prompt": renderer.training_prompt(pair["prompt"]),
        "chosen": renderer.completion(pair["chosen"]),
        "rejected": renderer.completion(pair["rejected"]),
    }
