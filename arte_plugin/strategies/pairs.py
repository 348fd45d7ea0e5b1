"""The teacher's DPO data set, and the student's: `type: arte_plugin.preference_pairs`, rows of `PreferencePair`.

How a prompt is rendered for the student stands in the entry's `field_messages`, as in `tailored.py` in `input_format`:
a key that Axolotl keeps in entries for DPO, and reads only for types of its own.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

from arte_plugin.errors import ConfigError
from arte_plugin.language.rendering import PromptStyle, Renderer, from_input_format
from arte_plugin.rows import PreferencePair
from arte_plugin.training import dpo_rows
from arte_plugin.training.dpo_rows import MARK

_KEPT = ("prompt", "chosen", "rejected")

_RENDERERS: dict[int, tuple[Any, Renderer]] = {}


def preference_pairs(
    cfg: Any, dataset_idx: int = 0, **kwargs: Any
) -> tuple[Callable[..., dict[str, str]], dict[str, Any]]:
    """What Axolotl calls: how to render a pair for the teacher, and how to map it over the data set.

    Axolotl hands the tokenizer to the function that is returned, because that has a parameter of this name.
    """
    removed = [f.name for f in dataclasses.fields(PreferencePair) if f.name not in _KEPT]
    if own := _own_format(cfg, dataset_idx):
        # The student's training is Axolotl alone, without the plugin that would see to that.
        dpo_rows.install()
        return partial(render_pair, **own), {"remove_columns": removed}
    arte = cfg.get("arte") or {}
    teacher = arte.get("teacher") or {}
    rendering: dict[str, Any] = {
        "prompt_style": teacher.get("prompt_style") or "auto",
        "template_kwargs": dict(teacher.get("chat_template_kwargs") or {}),
        "date": arte.get("date"),
        # Whatever its length: what is trained on has none.
        "thought_tokens": 1 if teacher.get("reasoning") is True else 0,
    }
    return partial(render_pair, **rendering), {"remove_columns": removed}


def _own_format(cfg: Any, dataset_idx: int) -> dict[str, Any] | None:
    """What the entry itself says of how its prompts are rendered; None where it says nothing.

    Raises `ConfigError` where that is no prompt style.
    """
    entries = cfg.get("datasets") or []
    given = entries[dataset_idx].get("field_messages") if dataset_idx < len(entries) else None
    if not given:
        return None
    try:
        return from_input_format(given)
    except ValueError:
        raise ConfigError(
            f"`field_messages` of a data set of type arte_plugin.preference_pairs is {given!r}; it must be one of "
            f"{', '.join(get_args(PromptStyle))}, or JSON with `prompt_style`, `template_kwargs` and `date`."
        ) from None


def render_pair(
    pair: Mapping[str, Any],
    tokenizer: Any,
    prompt_style: PromptStyle,
    template_kwargs: Mapping[str, Any] | None = None,
    date: str | None = None,
    thought_tokens: int = 0,
) -> dict[str, Any]:
    """`prompt`, `chosen` and `rejected` as the teacher is asked and as its template writes a reply.

    They are complete, and marked so that `dpo_rows` keeps TRL from adding tokens of its own.
    """
    renderer = _renderer(tokenizer, prompt_style, template_kwargs, date, thought_tokens)
    prompt, chosen, rejected = rendered(pair, renderer)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, MARK: True}


def rendered(pair: Mapping[str, Any], renderer: Renderer) -> tuple[str, str, str]:
    """A pair's prompt, chosen and rejected completion, as text that holds every special token.

    A rationale ends the teacher's reply; a question stands behind what was written before it, and ends nothing.
    """
    # A reply's leading white space is the template's business, as it is in front of a rationale.
    begun = (pair.get("begun") or "").lstrip()
    written = partial(renderer.part_of_reply, begun=begun) if pair.get("level") == "question" else renderer.completion
    return renderer.prompt(pair["prompt"], begun), written(pair["chosen"]), written(pair["rejected"])


def _renderer(tokenizer: Any, *settings: Any) -> Renderer:
    """One for all rows: finding out about a template takes as long as rendering a few of them."""
    known = _RENDERERS.get(id(tokenizer))
    if known is None or known[0] != settings or known[1].tokenizer is not tokenizer:
        known = _RENDERERS[id(tokenizer)] = (settings, Renderer(tokenizer, *settings))
    return known[1]
