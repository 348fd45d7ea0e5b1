"""How likely a loaded model finds a given reply: one forward pass in place of a generation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from arte_plugin.engines.attention import Prefix, SplitAttention
from arte_plugin.engines.base import Likelihood, Reply
from arte_plugin.engines.limits import WORTH_SHARING
from arte_plugin.engines.plain_attention import CHUNK
from arte_plugin.engines.shared_prefix import SharedPrefixModel
from arte_plugin.errors import DataError

#: Tokens of several rows that go through the model at a time; the scores of their attention are held whole.
AT_A_TIME = 4 * CHUNK


@dataclass(frozen=True)
class _Row:
    """A text's tokens, of which the last `scored` are the reply's."""

    tokens: list[int]
    scored: int


@torch.inference_mode()
def log_likelihoods(
    model: Any, tokenizer: Any, replies: Sequence[Reply], share: bool = True,
    attention: Callable[[int], SplitAttention] | None = None,
) -> list[Likelihood]:  # fmt: skip
    """The log-probability of each of `replies` behind its prompt, in their order.

    What all prompts of a batch begin with is computed once, and nothing is padded, if `share` allows; by an `attention`
    that is made for a number of tokens, or the plain one. Prompt and reply
    are tokenised in one piece, as the model would see them: a token that holds the end of the one and the beginning of
    the other counts as the reply's. Raises `DataError` for a text that doesn't fit into the model's context, and for a
    reply that follows on no token, which no logits tell of.
    """
    rows = [_Row(*reply_tokens(reply, tokenizer)) for reply in replies]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    positions = getattr(base.config.get_text_config(decoder=True), "max_position_embeddings", None)
    for row, reply in zip(rows, replies, strict=True):
        if row.scored == len(row.tokens):
            raise DataError(
                "A prompt is empty: there is nothing that a reply could follow on."
                if not reply.prompt
                else f"A prompt has no token of its own that its reply could follow on: {reply.prompt[:200]!r}"
            )
        if positions is not None and len(row.tokens) > positions:
            raise DataError(
                f"A prompt and its answer, {len(row.tokens)} tokens in all, don't fit into the model's {positions} "
                "positions. Take shorter questions or a model with a longer context. The prompt begins: "
                f"{reply.prompt[:200]!r}"
            )
    if not rows:
        return []
    scored = _packed(model, rows, attention) if share else _one_by_one(model, rows)
    found = []
    for row, logits in zip(rows, scored, strict=True):
        written = torch.tensor(row.tokens[-row.scored :], device=logits.device)
        total = torch.log_softmax(logits.float(), dim=-1).gather(1, written[:, None]).double().sum()
        found.append(Likelihood(float(total), row.scored, len(row.tokens)))
    return found


def _packed(
    model: Any, rows: Sequence[_Row], attention: Callable[[int], SplitAttention] | None
) -> Iterator[torch.Tensor]:
    """The logits of each row's scored tokens: (scored, vocabulary)."""
    shared = _shared(rows)
    longest = max(len(row.tokens) - shared for row in rows)
    kept = attention(shared + max(AT_A_TIME, longest)) if attention else None
    packed = SharedPrefixModel(model, len(rows), kept)
    with packed.attention():
        prefix = packed.prefix(rows[0].tokens[:shared]) if shared else Prefix()
    todo = list(rows)
    while todo:
        some = [todo.pop(0)]
        while todo and (len(some) + 1) * max(len(row.tokens) - shared for row in [*some, todo[0]]) <= AT_A_TIME:
            some.append(todo.pop(0))
        own = [row.tokens[shared:-1] for row in some]
        for slot, tokens in enumerate(own):
            packed.kept.take(slot, len(tokens), must=True)
        with packed.attention():
            logits = packed.extend(0, own, [0] * len(some), [prefix] * len(some), [row.scored for row in some])
        for slot in range(len(some)):
            packed.kept.drop(slot)
        yield from logits.split([row.scored for row in some])


def _one_by_one(model: Any, rows: Sequence[_Row]) -> Iterator[torch.Tensor]:
    """The same with the model's own attention."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    device = base.get_input_embeddings().weight.device
    for row in rows:
        ids = torch.tensor([row.tokens[:-1]], device=device)
        yield model(input_ids=ids, use_cache=False).logits[0, -row.scored :]


def reply_tokens(reply: Reply, tokenizer: Any) -> tuple[list[int], int]:
    """The tokens of prompt and reply in one piece, and how many of the last ones are the reply's."""
    alone, whole = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (reply.prompt, reply.prompt + reply.text)
    )
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, whole, strict=False)))
    return whole, len(whole) - same


def _shared(rows: Sequence[_Row]) -> int:
    """How many tokens all rows begin with, short of the one that the first scored token follows on."""
    columns = zip(*(row.tokens for row in rows), strict=False)
    same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    same = min(same, min(len(row.tokens) - row.scored for row in rows) - 1)
    return same if len(rows) > 1 and same >= WORTH_SHARING else 0
