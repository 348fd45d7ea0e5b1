"""Decoding many rows at a time on a model in this process, without padding and with every shared prefix stored once.

The tokens of all rows lie behind one another in one sequence, so no padding passes through the model. Attention is the
only place where rows are told apart. It is computed in two parts, one over the prefix that rows share and one over what
each row has of its own, which are then put together by their log-sum-exp (Juravsky et al., "Hydragen", 2024,
section 3.1). The prefix is read once for all its rows, and never copied.
"""

import inspect
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface

#: The name of our attention among those of transformers.
NAME = "arte_shared_prefix"

#: Key-value slots are added this many tokens at a time.
GROWTH = 64

#: Tokens of a prefix that go through the model at a time; the scores of their attention are held whole.
CHUNK = 512

#: Tokens on which a model's attention is compared with ours.
TRIED = 64


@dataclass
class Prefix:
    """A computed prefix: its length in tokens, and the keys and values (kv heads, tokens, width) of each layer."""

    length: int = 0
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


@dataclass
class _Step:
    """Where the tokens of one forward belong. Rows are counted from the first one that takes part."""

    #: For every token its row, and its place behind the row's prefix.
    rows: torch.Tensor
    places: torch.Tensor
    #: For every token its place among the tokens that its row has in this step; the most that a row has.
    steps: torch.Tensor
    longest: int
    #: (rows, longest, places): which of its row's keys a token may see.
    visible: torch.Tensor
    #: Of every token, its position in the whole text.
    positions: torch.Tensor
    #: Which tokens (None: all) have which prefix.
    families: list[tuple[Prefix, torch.Tensor | None]]
    #: The slot of the first row that takes part; None while a prefix is computed, which has no slot.
    first: int | None


class SharedPrefixModel:
    """A causal language model that computes packed tokens of rows with common prefixes.

    `slots` rows of their own keys and values are held, in buffers that grow with the longest of them.
    """

    def __init__(self, model, slots: int):
        self._model = model
        self._base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.device = self._base.get_input_embeddings().weight.device
        self._slots = slots
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._step: _Step | None = None
        #: Tokens that went through the model.
        self.computed = 0

    @contextmanager
    def attention(self):
        """Within this, the model's attention is ours."""
        global _active
        kept, outer = self._base.config._attn_implementation, _active
        self._base.set_attn_implementation(NAME)
        _active = self
        try:
            yield
        finally:
            _active = outer
            self._base.set_attn_implementation(kept)

    def prefix(self, tokens: Sequence[int]) -> Prefix:
        """Compute a prefix, piece after piece."""
        done = Prefix()
        for start in range(0, len(tokens), CHUNK):
            piece = tokens[start : start + CHUNK]
            places = torch.arange(len(piece), device=self.device)
            step = _Step(
                rows=torch.zeros_like(places),
                places=places,
                steps=places,
                longest=len(piece),
                visible=places[None, :, None] >= places[None, None, :],
                positions=places + start,
                families=[(done, None)],
                first=None,
            )
            self._run(piece, step, keep=places[-1:])
            done.length += len(piece)
        return done

    def extend(self, first: int, new: Sequence[Sequence[int]], known: Sequence[int], prefixes: Sequence[Prefix]):
        """Put `new` tokens behind the rows in the slots from `first` on; returns (rows, vocabulary) last logits.

        `known` are the lengths that the rows have behind their prefix already.
        """
        counts = torch.tensor([len(tokens) for tokens in new])
        before = torch.tensor(known)
        longest = int(counts.max())
        rows = torch.repeat_interleave(torch.arange(len(new)), counts)
        ends = counts.cumsum(0)
        steps = torch.arange(int(ends[-1])) - torch.repeat_interleave(ends - counts, counts)
        places = before[rows] + steps
        lengths = torch.tensor([prefix.length for prefix in prefixes])
        reach = before[:, None] + torch.arange(longest)[None, :]
        visible = reach[:, :, None] >= torch.arange(int((before + counts).max()))[None, None, :]
        by_prefix: dict[int, list[int]] = {}
        for row, prefix in enumerate(prefixes):
            if prefix.length:
                by_prefix.setdefault(id(prefix), []).append(row)
        families: list[tuple[Prefix, torch.Tensor | None]] = []
        for members in by_prefix.values():
            belongs = torch.isin(rows, torch.tensor(members))
            of_all = len(members) == len(prefixes)
            families.append((prefixes[members[0]], None if of_all else belongs.nonzero()[:, 0].to(self.device)))
        self._make_room(int((before + counts).max()))
        step = _Step(
            rows=rows.to(self.device),
            places=places.to(self.device),
            steps=steps.to(self.device),
            longest=longest,
            visible=visible.to(self.device),
            positions=(lengths[rows] + places).to(self.device),
            families=families,
            first=first,
        )
        return self._run([token for tokens in new for token in tokens], step, keep=(ends - 1).to(self.device))

    def move(self, source: int, target: int, length: int) -> None:
        """Copy what the row in slot `source` has of its own, `length` tokens, into slot `target`."""
        for keys, values in self._buffers.values():
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]

    def _run(self, tokens: Sequence[int], step: _Step, keep: torch.Tensor) -> torch.Tensor:
        self._step = step
        self.computed += len(tokens)
        logits = self._model(
            input_ids=torch.tensor([tokens], device=self.device),
            position_ids=step.positions[None],
            use_cache=False,
            logits_to_keep=keep,
        ).logits
        return logits[0]

    def _make_room(self, length: int) -> None:
        self._capacity = -(-length // GROWTH) * GROWTH
        for layer, (keys, values) in self._buffers.items():
            if keys.shape[2] < self._capacity:
                self._buffers[layer] = (_longer(keys, self._capacity), _longer(values, self._capacity))

    def attend(self, layer: int, query, key, value, scaling: float, softcap: float | None, window: int | None):
        """Attention of one layer: query (1, heads, tokens, width), key and value (1, kv heads, tokens, width).

        Keeps the new keys and values. Returns (1, tokens, heads, value width).
        """
        step = self._step
        assert step is not None
        heads, tokens, width = query.shape[1:]
        kv_heads, value_width = key.shape[1], value.shape[-1]
        grouped = (query[0] * scaling).view(kv_heads, heads // kv_heads, tokens, width)
        if step.first is None:
            keys, values = key, value
        else:
            keys, values = self._store(layer, step, step.first, key[0], value[0])
        own = _Part.of_rows(grouped, keys, values, step, softcap, window)
        for prefix, members in step.families:
            if layer in prefix.layers:
                own.add(members, _Part.of_prefix(grouped, members, *prefix.layers[layer], step, softcap, window))
        if step.first is None:
            prefix = step.families[0][0]
            if layer in prefix.layers:
                key = torch.cat([prefix.layers[layer][0][None], key], dim=2)
                value = torch.cat([prefix.layers[layer][1][None], value], dim=2)
            prefix.layers[layer] = key[0].contiguous(), value[0].contiguous()
        return own.output.to(query.dtype).reshape(1, tokens, heads, value_width)

    def _store(self, layer: int, step: _Step, first: int, key, value):
        if layer not in self._buffers:
            shape = (self._slots, key.shape[0], self._capacity)
            self._buffers[layer] = (key.new_zeros(*shape, key.shape[-1]), value.new_zeros(*shape, value.shape[-1]))
        keys, values = self._buffers[layer]
        slots = step.rows + first
        keys[slots, :, step.places] = key.transpose(0, 1)
        values[slots, :, step.places] = value.transpose(0, 1)
        rows, length = step.visible.shape[0], step.visible.shape[2]
        taking_part = slice(first, first + rows)
        return keys[taking_part, :, :length], values[taking_part, :, :length]


@dataclass
class _Part:
    """Attention over a part of the keys: output (tokens, kv heads, group, width) and log-sum-exp without width."""

    output: torch.Tensor
    total: torch.Tensor

    @classmethod
    def of_rows(cls, grouped, keys, values, step: _Step, softcap, window) -> "_Part":
        """Every token over what its own row has: keys and values (rows, kv heads, places, width)."""
        kv_heads, group, _, width = grouped.shape
        rows, longest, length = step.visible.shape
        queries = grouped.permute(2, 0, 1, 3)
        if longest > 1:
            laid_out = queries.new_zeros(rows, longest, kv_heads, group, width)
            laid_out[step.rows, step.steps] = queries
            queries = laid_out.permute(0, 2, 3, 1, 4)
        visible = step.visible
        if window is not None and length > window:
            reach = visible.sum(-1, keepdim=True)  # A token sees its row's keys up to itself.
            visible = visible & (torch.arange(length, device=visible.device) >= reach - window)
        scores = queries.reshape(rows, kv_heads, group * longest, width) @ keys.transpose(-1, -2)
        scores = _capped(scores.float(), softcap).view(rows, kv_heads, group, longest, length)
        scores = scores.masked_fill(~visible[:, None, None], -torch.inf)
        output, total = _weigh(scores.view(rows, kv_heads, group * longest, length), values)
        output = output.view(rows, kv_heads, group, longest, -1).permute(0, 3, 1, 2, 4)
        total = total.view(rows, kv_heads, group, longest).permute(0, 3, 1, 2)
        if longest > 1:
            return cls(output[step.rows, step.steps], total[step.rows, step.steps])
        return cls(output[:, 0], total[:, 0])

    @classmethod
    def of_prefix(cls, grouped, members, keys, values, step: _Step, softcap, window) -> "_Part":
        """The tokens `members` (None: all) over their prefix: keys and values (kv heads, tokens, width)."""
        if members is not None:
            grouped = grouped[:, :, members]
        kv_heads, group, tokens, width = grouped.shape
        length = keys.shape[1]
        scores = grouped.reshape(kv_heads, group * tokens, width) @ keys.transpose(-1, -2)
        scores = _capped(scores.float(), softcap).view(kv_heads, group, tokens, length)
        positions = step.positions if members is None else step.positions[members]
        if window is not None and int(positions.max()) >= window:
            seen = torch.arange(length, device=keys.device)[None, :] > positions[:, None] - window
            scores = scores.masked_fill(~seen, -torch.inf)
        output, total = _weigh(scores.view(kv_heads, group * tokens, length), values)
        output = output.view(kv_heads, group, tokens, -1).permute(2, 0, 1, 3)
        return cls(output, total.view(kv_heads, group, tokens).permute(2, 0, 1))

    def add(self, members: torch.Tensor | None, other: "_Part") -> None:
        """Take in the attention of the tokens `members` over other keys."""
        output = self.output if members is None else self.output[members]
        total = self.total if members is None else self.total[members]
        together = torch.logaddexp(total, other.total)
        output = output * (total - together).exp()[..., None] + other.output * (other.total - together).exp()[..., None]
        if members is None:
            self.output, self.total = output, together
        else:
            self.output[members], self.total[members] = output, together


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
    except (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        return f"{type(error).__name__}: {error}"
    off = float((seen - expected).norm() / expected.norm())
    allowed = 1e-3 if next(base.parameters()).dtype == torch.float32 and not _is_quantised(base) else 0.1
    return "" if off <= allowed else f"its logits would be off by {100 * off:.1f} %"


def token_bytes(model) -> int:
    """Bytes of keys and values that a token takes in all layers of a model."""
    config = model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    size = torch.empty((), dtype=model.dtype).element_size()
    return 2 * config.num_hidden_layers * kv_heads * width * size


def _is_quantised(model) -> bool:
    return bool(getattr(model, "is_quantized", False))


def _weigh(scores: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax over the last dimension of float32 `scores`, applied to `values`; and the log-sum-exp."""
    # Where a window hides all keys the maximum is -inf, and (-inf) - (-inf) would be no number.
    highest = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
    weights = scores.sub_(highest).exp_()
    sums = weights.sum(-1, keepdim=True)
    output = (weights.to(values.dtype) @ values).float() / sums.clamp_min(torch.finfo(sums.dtype).tiny)
    return output, (sums.log() + highest)[..., 0]


def _capped(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def _longer(buffer: torch.Tensor, length: int) -> torch.Tensor:
    longer = buffer.new_zeros(*buffer.shape[:2], length, buffer.shape[3])
    longer[:, :, : buffer.shape[2]] = buffer
    return longer


_active: SharedPrefixModel | None = None


def _attention(
    module, query, key, value, attention_mask=None, scaling=None, softcap=None, sliding_window=None, s_aux=None, **more
):
    if _active is None or s_aux is not None or query.shape[0] != 1:
        raise NotImplementedError("attention with a shared prefix, for packed rows only")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _active.attend(module.layer_idx, query, key, value, scaling, softcap, sliding_window), None


AttentionInterface.register(NAME, _attention)
