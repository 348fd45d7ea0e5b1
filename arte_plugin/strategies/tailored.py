"""The student's SFT data set: `type: arte_plugin.strategies.tailored`, rows with `prompt` and `rationale`.

The prompt style stands in the entry's `input_format`, a key of Axolotl's own schema that none of its strategies
reads and that its data set cache takes into account.
"""

from collections.abc import Mapping
from typing import Any, get_args

from axolotl.prompt_tokenizers import IGNORE_INDEX, PromptTokenizingStrategy

from arte_plugin.errors import ConfigError, DataError
from arte_plugin.rendering import PromptStyle, Renderer


class TailoredStrategy(PromptTokenizingStrategy):
    """Tokenises a tailored example so that the student learns from the rationale and its end, not from the prompt."""

    def __init__(self, tokenizer: Any, prompt_style: PromptStyle, sequence_len: int):
        super().__init__(prompter=None, tokenizer=tokenizer, sequence_len=sequence_len)
        self.renderer = Renderer(tokenizer, prompt_style)

    def tokenize_prompt(self, prompt: Mapping[str, Any]) -> dict[str, list[int]]:
        """`input_ids`, `attention_mask` and `labels` of one row, uncut: what is too long is Axolotl's to drop.

        Raises `DataError` for a row without text in `prompt` or `rationale`.
        """
        text, rationale = prompt.get("prompt"), prompt.get("rationale")
        if not (isinstance(text, str) and text.strip() and isinstance(rationale, str) and rationale.strip()):
            raise DataError(
                "A tailored example needs text in `prompt` and in `rationale`; found "
                f"{', '.join(prompt)} with prompt={text!r} and rationale={rationale!r}."
            )
        prompt_ids, completion_ids = tokenize(self.renderer, text, rationale)
        return {
            "input_ids": prompt_ids + completion_ids,
            "attention_mask": [1] * (len(prompt_ids) + len(completion_ids)),
            "labels": [IGNORE_INDEX] * len(prompt_ids) + completion_ids,
        }


def tokenize(renderer: Renderer, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, just as the model will be given it, and of the completion that follows it."""
    rendered, reply = renderer.prompt(prompt), renderer.completion(completion)
    prompt_ids, whole, reply_ids = (
        list(renderer.tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (rendered, rendered + reply, reply)
    )
    # Together where it can be: by itself, a completion gets a second space in front from some tokenizers. Apart where a
    # token would reach over the border, for the prompt that is generated from ends there.
    together = whole[: len(prompt_ids)] == prompt_ids
    return prompt_ids, whole[len(prompt_ids) :] if together else reply_ids


def load(tokenizer: Any, cfg: Any, ds_cfg: Mapping[str, Any] | None = None) -> TailoredStrategy:
    """What Axolotl calls. Raises `ConfigError` where `input_format` is no prompt style."""
    style: PromptStyle = (ds_cfg or {}).get("input_format") or "auto"
    if style not in get_args(PromptStyle):
        raise ConfigError(
            f"`input_format` of a data set of type arte_plugin.strategies.tailored is {style!r}; "
            f"it must be one of {', '.join(get_args(PromptStyle))}."
        )
    return TailoredStrategy(tokenizer, style, cfg["sequence_len"])
