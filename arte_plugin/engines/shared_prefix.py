"""Decoding many rows at a time on a model in this process, without padding and with every shared prefix stored once.

The tokens of all rows lie behind one another in one sequence, so no padding passes through the model. Attention is the
only place where rows are told apart; it is computed in two parts, over the prefix that rows share and over what each
row has of its own (`attention`).
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

from arte_plugin.engines.attention import Prefix, SplitAttention, Step, to_device
from arte_plugin.engines.plain_attention import PlainAttention

#: The name of our attention among those of transformers.
NAME = "arte_shared_prefix"

#: Tokens on which a model's attention is compared with ours.
TRIED = 64

#: How far logits may be off, of their norm: in float32, and in half precision or with quantised weights.
ALLOWED, ALLOWED_IN_HALF = 1e-3, 0.1

#: The same for several rows, on the average and each: in bfloat16, SmolLM2-135M's own attention is 2 % off what it
#: comes to in float32 at most places of a text, and 20 % at one of them.
MEAN_IN_HALF, MOST_IN_HALF = 0.03, 0.15


class SharedPrefixModel:
    """A causal language model that computes packed tokens of rows with common prefixes.

    `attention` holds the rows' keys and values; by default `slots` rows side by side, in plain matmuls.
    """

    def __init__(self, model, slots: int, attention: SplitAttention | None = None):
        self._model = model
        self._base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.device = self._base.get_input_embeddings().weight.device
        self.kept: SplitAttention = attention or PlainAttention(slots, self.device)
        #: Tokens that went through the model.
        self.computed = 0
        #: Whether a layer has asked for a sliding window, and a width that is to be tried instead of its own.
        self.windows = False
        self.window: int | None = None

    @contextmanager
    def attention(self) -> Iterator[None]:
        """Within this, the model's attention is ours."""
        global _active
        outer, configs = _active, self._configs()
        before = [config._attn_implementation_internal for config in configs]
        self._base.set_attn_implementation(NAME)
        _active = self
        try:
            yield
        finally:
            _active = outer
            # By its setter the model would look for the kernel of its own attention again, on the Hub if it is from
            # there, each time; and where that fails it would be left with ours.
            for config, own in zip(configs, before, strict=True):
                config._attn_implementation_internal = own

    def prefix(self, tokens: Sequence[int]) -> Prefix:
        """Compute a prefix, piece after piece."""
        done = self.kept.prefix(len(tokens))
        for start in range(0, len(tokens), self.kept.chunk):
            piece = tokens[start : start + self.kept.chunk]
            step = Step(torch.tensor([len(piece)]), torch.tensor([0]), [done], None)
            self._run(piece, step, keep=step.ends - 1)
            done.length += len(piece)
        return done

    def extend(
        self,
        first: int,
        new: Sequence[Sequence[int]],
        known: Sequence[int],
        prefixes: Sequence[Prefix],
        last: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Put `new` tokens behind the rows in the slots from `first` on; returns (rows, vocabulary) logits.

        `known` are the lengths that the rows have behind their prefix already. The logits are those of each row's last
        token; or, row after row, of as many of its new tokens as `last` says.
        """
        order = self.kept.order(prefixes)
        counts = [len(tokens) for tokens in new]
        step = Step(
            torch.tensor([counts[row] for row in order]),
            torch.tensor([known[row] for row in order]),
            [prefixes[row] for row in order],
            [first + row for row in order],
        )
        place = {row: end for row, end in zip(order, step.ends.tolist(), strict=True)}
        kept = last or [1] * len(new)
        keep = [token for row, some in enumerate(kept) for token in range(place[row] - some, place[row])]
        return self._run([token for row in order for token in new[row]], step, torch.tensor(keep))

    def _run(self, tokens: Sequence[int], step: Step, keep: torch.Tensor) -> torch.Tensor:
        self.kept.begin(step)
        self.computed += len(tokens)
        ids, positions, keep = to_device([torch.tensor(tokens), step.positions, keep], self.device)
        logits = self._model(
            input_ids=ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=keep
        ).logits
        return logits[0]

    def _configs(self) -> list[Any]:
        """Those of the model and of its parts, from each of which a layer may read which attention it has."""
        found: dict[int, Any] = {}
        todo = [module.config for module in self._base.modules() if hasattr(module, "config")]
        while todo:
            config = todo.pop()
            if id(config) not in found and hasattr(config, "_attn_implementation_internal"):
                found[id(config)] = config
                todo += [getattr(config, key, None) for key in getattr(config, "sub_configs", ())]
        return list(found.values())


@torch.inference_mode()
def can_share(model, tokens: Sequence[int]) -> str:
    """Why the attention of `model` can't be taken over, in words; empty if it can.

    Tried on a few `tokens`, against the model's own attention: what an architecture does differently (other inputs to
    attention, a recurrent state, positions that are not told by their ids) shows in the logits.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    inputs = inspect.signature(base.forward).parameters
    if "position_ids" not in inputs or "logits_to_keep" not in inputs:
        return f"{type(base).__name__} takes no position ids"
    if not base._can_set_attn_implementation():
        return f"{type(base).__name__} has an attention of its own"
    if getattr(base.config.get_text_config(decoder=True), "attention_chunk_size", None):
        return "its attention is chunked"
    some = list(tokens[:TRIED])
    half = len(some) // 2
    packed = SharedPrefixModel(model, 2)
    try:
        expected = model(input_ids=torch.tensor([some], device=packed.device), use_cache=False).logits[0, -1].float()
        with packed.attention():
            prefix = packed.prefix(some[:half])
            seen = packed.extend(0, [some[half:], some[half:-1] or some[half:]], [0, 0], [prefix, prefix])[0].float()
    except _FAILURES as error:
        return f"{type(error).__name__}: {error}"
    off = float((seen - expected).norm() / expected.norm())
    return "" if off <= _allowed(base) else f"its logits would be off by {100 * off:.1f} %"


@torch.inference_mode()
def compare(model, tokens: Sequence[int], attention: Callable[[], SplitAttention]) -> str:
    """Why `attention` should not be used instead of the plain one, in words; empty if it may.

    Tried on a few `tokens`, as rows with prefixes of different lengths and with none, that are read and then decoded
    in another order than they lie in; and the same with a window, where one of the layers has one.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    some = (list(tokens) * TRIED)[:TRIED]
    for narrow in (False, True):
        try:
            plain, windows = _tried(SharedPrefixModel(model, 4), some, narrow)
            seen, _ = _tried(SharedPrefixModel(model, 4, attention()), some, narrow)
        except _FAILURES as error:
            return f"{type(error).__name__}: {error}"
        off = (seen - plain).norm(dim=-1) / plain.norm(dim=-1)
        mean, most = (MEAN_IN_HALF, MOST_IN_HALF) if _allowed(base) == ALLOWED_IN_HALF else (ALLOWED, ALLOWED)
        if not (off.mean() <= mean and off.max() <= most):
            where = " in a sliding window" if narrow else ""
            return f"its logits would be off by {100 * off.mean():.1f} %, one by {100 * off.max():.1f} %{where}"
        if not windows:
            return ""
    return ""


def _tried(packed: SharedPrefixModel, some: list[int], narrow: bool) -> tuple[torch.Tensor, bool]:
    """The float32 logits (rows, vocabulary) of some rows as they are read and in two steps, and whether any layer has
    a sliding window; with `narrow` it is a small one.
    """
    kept, third = packed.kept, len(some) // 3
    packed.window = TRIED // 4 if narrow else None
    with packed.attention():
        prefixes = [packed.prefix(some[:third]), packed.prefix(some[third:]), Prefix()]
        of_rows = [prefixes[1], prefixes[0], prefixes[2], prefixes[1]]
        own = [some[:9], some[third:], some, some[9 : 9 + third]]
        for slot, tokens in enumerate(own):
            kept.take(slot, len(tokens) + 3, must=True)
        logits = [packed.extend(0, own, [0] * len(own), of_rows)]
        lengths = [len(tokens) for tokens in own]
        for token in some[:2]:
            # The first row goes, and the last one takes its place.
            if len(lengths) == len(own):
                kept.drop(0)
                kept.move([3], [0], lengths[3])
                lengths, of_rows = [lengths[3], *lengths[1:3]], [of_rows[3], *of_rows[1:3]]
            logits.append(packed.extend(0, [[token]] * 3, lengths, of_rows))
            lengths = [length + 1 for length in lengths]
    return torch.cat(logits).float(), packed.windows


_FAILURES = (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError)


def _allowed(base) -> float:
    whole = next(base.parameters()).dtype == torch.float32 and not getattr(base, "is_quantized", False)
    return ALLOWED if whole else ALLOWED_IN_HALF


def token_bytes(model) -> int:
    """Bytes of keys and values that a token takes in all layers of a model."""
    config = model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    size = torch.empty((), dtype=model.dtype).element_size()
    return 2 * config.num_hidden_layers * kv_heads * width * size


_active: SharedPrefixModel | None = None


def _attention(
    module, query, key, value, attention_mask=None, scaling=None, softcap=None, sliding_window=None, s_aux=None, **more
):
    if _active is None or s_aux is not None or query.shape[0] != 1:
        raise NotImplementedError("attention with a shared prefix, for packed rows only")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if sliding_window is not None:
        _active.windows = True
        sliding_window = _active.window or sliding_window
    return _active.kept.attend(module.layer_idx, query, key, value, scaling, softcap, sliding_window), None


AttentionInterface.register(NAME, _attention)
