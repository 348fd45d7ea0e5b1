"""The teacher's DPO data set: `type: arte_plugin.preference_pairs`, rows of `PreferencePair`."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from arte_plugin.language.rendering import PromptStyle, Renderer
from arte_plugin.rows import PreferencePair
from arte_plugin.training.dpo_rows import MARK

_KEPT = ("prompt", "chosen", "rejected")

_RENDERERS: dict[int, tuple[Any, Renderer]] = {}


def preference_pairs(
    cfg: Any, dataset_idx: int = 0, **kwargs: Any
) -> tuple[Callable[..., dict[str, str]], dict[str, Any]]:
    """What Axolotl calls: how to render a pair for the teacher, and how to map it over the data set.

    Axolotl hands the tokenizer to the function that is returned, because that has a parameter of this name.
    """
    arte = cfg.get("arte") or {}
    teacher = arte.get("teacher") or {}
    rendering: dict[str, Any] = {
        "prompt_style": teacher.get("prompt_style") or "auto",
        "template_kwargs": dict(teacher.get("chat_template_kwargs") or {}),
        "date": arte.get("date"),
        # Whatever its length: what is trained on has none.
        "thought_tokens": 1 if teacher.get("reasoning") is True else 0,
    }
    # A later field is a column only where a row says something in it, and there it may stay.
    fields = dataclasses.fields(PreferencePair)
    removed = [f.name for f in fields if f.name not in _KEPT and not f.metadata.get("later")]
    return partial(render_pair, **rendering), {"remove_columns": removed}


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
