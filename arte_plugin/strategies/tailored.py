"""The student's SFT data set: `type: arte_plugin.strategies.tailored`, rows with `prompt` and `rationale`.

The prompt style, and what else decides how a prompt is rendered, stands in the entry's `input_format`: a key of
Axolotl's own schema that none of its strategies reads and that its data set cache takes into account.
"""

from collections.abc import Mapping
from typing import Any, get_args

from axolotl.prompt_tokenizers import IGNORE_INDEX, PromptTokenizingStrategy

from arte_plugin.errors import ConfigError, DataError
from arte_plugin.language.rendering import PromptStyle, Renderer, from_input_format, token_ids


class TailoredStrategy(PromptTokenizingStrategy):
    """Tokenises a tailored example so that the student learns from the rationale and its end, not from the prompt."""

    def __init__(self, tokenizer: Any, renderer: Renderer, sequence_len: int):
        super().__init__(prompter=None, tokenizer=tokenizer, sequence_len=sequence_len)
        self.renderer = renderer

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
    return token_ids(renderer.tokenizer, renderer.prompt(prompt), renderer.completion(completion))


def load(tokenizer: Any, cfg: Any, ds_cfg: Mapping[str, Any] | None = None) -> TailoredStrategy:
    """What Axolotl calls. Raises `ConfigError` where `input_format` is no prompt style."""
    given = (ds_cfg or {}).get("input_format") or "auto"
    try:
        settings = from_input_format(given)
    except ValueError:
        raise ConfigError(
            f"`input_format` of a data set of type arte_plugin.strategies.tailored is {given!r}; it must be one of "
            f"{', '.join(get_args(PromptStyle))}, or JSON with `prompt_style`, `template_kwargs` and `date`."
        ) from None
    return TailoredStrategy(tokenizer, Renderer(tokenizer, **settings), cfg["sequence_len"])
