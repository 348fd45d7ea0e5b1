"""How likely a loaded model finds a given reply: one forward pass in place of a generation."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from arte_plugin.engines.base import Likelihood, Reply
from arte_plugin.errors import DataError

#: Below this many shared tokens a plain padded batch is as fast.
WORTH_SHARING = 16


@dataclass(frozen=True)
class _Row:
    """A text's tokens, of which the last `scored` are the reply's."""

    tokens: list[int]
    scored: int


@torch.inference_mode()
def log_likelihoods(
    model: Any, tokenizer: Any, replies: Sequence[Reply], share: bool | None = None
) -> list[Likelihood]:
    """The log-probability of each of `replies` behind its prompt, in their order.

    What all prompts of a batch begin with is computed once, where the model's cache can be copied (`share` overrules
    that); rows are padded at their end, where no token of theirs looks. Prompt and reply are tokenised in one piece, as
    the model would see them: a token that holds the end of the one and the beginning of the other counts as the
    reply's. Raises `DataError` for a text that doesn't fit into the model's context.
    """
    if not replies:
        return []
    rows = [_Row(*reply_tokens(reply, tokenizer)) for reply in replies]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    positions = getattr(base.config.get_text_config(decoder=True), "max_position_embeddings", None)
    for row, reply in zip(rows, replies, strict=True):
        if positions is not None and len(row.tokens) > positions:
            raise DataError(
                f"A prompt and its answer, {len(row.tokens)} tokens in all, don't fit into the model's {positions} "
                "positions. Take shorter questions or a model with a longer context. The prompt begins: "
                f"{reply.prompt[:200]!r}"
            )
    device = base.get_input_embeddings().weight.device
    shared = _shared(rows) if (_can_share(base) if share is None else share) else 0
    more: dict[str, Any] = {}
    if shared:
        cache = DynamicCache(config=base.config.get_text_config(decoder=True))
        prefix = torch.tensor([rows[0].tokens[:shared]], device=device)
        made = model(input_ids=prefix, past_key_values=cache, use_cache=True, **_keep(base, [shared - 1], device))
        more["past_key_values"] = copy.deepcopy(made.past_key_values)
        more["past_key_values"].batch_repeat_interleave(len(rows))
    width = max(len(row.tokens) for row in rows)
    ids = torch.tensor([row.tokens[shared:] + [0] * (width - len(row.tokens)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (width - len(row.tokens)) for row in rows], device=device)
    # The logits at a place are of the token behind it.
    places = [range(len(row.tokens) - row.scored - 1 - shared, len(row.tokens) - 1 - shared) for row in rows]
    wanted = sorted({place for some in places for place in some})
    kept = _keep(base, wanted, device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=bool(shared), **more, **kept).logits
    column = {place: i if kept else place for i, place in enumerate(wanted)}
    found = []
    for i, (row, some) in enumerate(zip(rows, places, strict=True)):
        of_row = torch.log_softmax(logits[i, [column[place] for place in some]].float(), dim=-1)
        written = torch.tensor(row.tokens[-row.scored :], device=of_row.device)
        total = of_row.gather(1, written[:, None]).double().sum()
        found.append(Likelihood(float(total), row.scored, len(row.tokens)))
    return found


def reply_tokens(reply: Reply, tokenizer: Any) -> tuple[list[int], int]:
    """The tokens of prompt and reply in one piece, and how many of the last ones are the reply's."""
    alone, whole = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (reply.prompt, reply.prompt + reply.text)
    )
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, whole, strict=False)))
    return whole, len(whole) - same


def _can_share(base: Any) -> bool:
    """Not with a recurrent state, and a sliding window may have forgotten what the rest has to see."""
    layers = DynamicCache(config=base.config.get_text_config(decoder=True)).layers
    return all(type(layer) is DynamicLayer for layer in layers)


def _shared(rows: Sequence[_Row]) -> int:
    """How many tokens all rows begin with, short of the one that the first scored token follows on."""
    columns = zip(*(row.tokens for row in rows), strict=False)
    same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    same = min(same, min(len(row.tokens) - row.scored for row in rows) - 1)
    return same if len(rows) > 1 and same >= WORTH_SHARING else 0


def _keep(base: Any, places: Sequence[int], device: Any) -> dict[str, torch.Tensor]:
    """Ask for the logits of `places` alone, where the model can be asked: those of a whole batch take much memory."""
    if "logits_to_keep" not in inspect.signature(base.forward).parameters:
        return {}
    return {"logits_to_keep": torch.tensor(places, device=device)}
