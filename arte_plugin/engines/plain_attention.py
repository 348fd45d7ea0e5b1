"""Attention over a shared prefix and own tokens in matmuls: for CPUs, old GPUs, float32 and capped scores.

Each family's part and the rows' own part are put together by their log-sum-exp (Juravsky et al., "Hydragen", 2024,
section 3.1). The prefix is read once for all its rows, and never copied. On a CPU, in float32, a part is one call of
torch's own flash attention, which gives that sum too; capped scores and windows it doesn't know.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from arte_plugin.engines.attention import Prefix, Step, to_device
from arte_plugin.engines.limits import PLAIN

#: Key-value slots are added this many tokens at a time.
GROWTH = 64

#: Tokens of a prefix that go through the model at a time; the scores of their attention are held whole.
CHUNK = PLAIN.chunk


class _Kept(Prefix):
    """With the keys and values (kv heads, tokens, width) of each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}


@dataclass
class _Laid:
    """A step on the device."""

    #: For every token its row, its place behind the row's prefix, and among those that its row gets.
    rows: torch.Tensor
    places: torch.Tensor
    steps: torch.Tensor
    longest: int
    #: (rows, longest, places): which of its row's keys a token may see.
    visible: torch.Tensor
    #: Of every token, its position in the whole text.
    positions: torch.Tensor
    families: list["_Members"]
    #: The slot of the first row; None while a prefix is computed.
    first: int | None
    #: Minus infinity where a token may not see a key, by what they are for: made by the first layer that asks.
    masks: dict[Any, torch.Tensor] = field(default_factory=dict)

    def seen(self, window: int | None) -> torch.Tensor:
        """`visible`, in a window."""
        length = self.visible.shape[2]
        if window is None or length <= window:
            return self.visible
        reach = self.visible.sum(-1, keepdim=True)  # A token sees its row's keys up to itself.
        return self.visible & (torch.arange(length, device=reach.device) >= reach - window)

    def mask(self, window: int | None, group: int, dtype: torch.dtype) -> torch.Tensor:
        """For `group` heads: (rows, 1, group * longest, places), with one token a row (rows, 1, 1, places)."""
        if (window, group, dtype) not in self.masks:
            seen = self.seen(window)
            hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
            # Of each head of the group all tokens, one behind the other; of one token a row, one does for all heads.
            self.masks[window, group, dtype] = hidden.repeat(1, group if self.longest > 1 else 1, 1)[:, None]
        return self.masks[window, group, dtype]


@dataclass
class _Members:
    """The tokens (None: all) that have a prefix, and the highest of their positions."""

    prefix: _Kept
    tokens: torch.Tensor | None
    highest: int


class PlainAttention:
    """Rows of their own keys and values in slots side by side, in buffers that grow with the longest of them."""

    name: ClassVar[str] = "matmuls, a prefix at a time"
    prefill: ClassVar[int] = PLAIN.prefill
    chunk: ClassVar[int] = CHUNK

    def __init__(self, slots: int, device: torch.device):
        self._slots, self._device = slots, device
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._capacity = 0
        self._laid: _Laid | None = None
        #: The prefix that is being computed.
        self._filling: Prefix | None = None

    def prefix(self, tokens: int) -> Prefix:
        """A prefix to be filled; its keys and values are its own."""
        return _Kept()

    def keeps(self, prefix: Prefix) -> bool:
        """Any that was made this way."""
        return isinstance(prefix, _Kept)

    def has_room(self, tokens: int) -> bool:
        """There are as many slots as the memory allows."""
        return True

    def take(self, slot: int, tokens: int, must: bool = False) -> bool:
        """A slot is as long as the longest of them."""
        return True

    def drop(self, slot: int) -> None:
        """Whoever comes next writes over it."""

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Copy what the rows have of their own, all at once: a launch for each row would take longer than the step."""
        here, there = to_device([torch.tensor(sources), torch.tensor(targets)], self._device)
        for keys, values in self._buffers.values():
            keys[there, :, :length] = keys[here, :, :length]
            values[there, :, :length] = values[here, :, :length]

    def order(self, prefixes: Sequence[Prefix]) -> Sequence[int]:
        """As they come."""
        return range(len(prefixes))

    def begin(self, step: Step) -> None:
        """Lay out a step, whose rows are in slots side by side."""
        longest, places = step.longest, int(step.lengths.max())
        reach = step.known[:, None] + torch.arange(longest)[None, :]
        visible = reach[:, :, None] >= torch.arange(places)[None, None, :]
        first = None if step.slots is None else step.slots[0]
        if first is not None:
            self._make_room(places)
        by_prefix: dict[int, list[int]] = {}
        for row, prefix in enumerate(step.prefixes):
            if prefix.length:
                by_prefix.setdefault(id(prefix), []).append(row)
        families = []
        for members in by_prefix.values():
            prefix, tokens = step.prefixes[members[0]], None
            assert isinstance(prefix, _Kept)
            highest = int(step.behind[members[0]] + step.lengths[members].max()) - 1
            if len(members) < len(step.prefixes):
                tokens = torch.isin(step.rows, torch.tensor(members)).nonzero()[:, 0].to(self._device)
            families.append(_Members(prefix, tokens, highest))
        self._filling = step.prefixes[0] if first is None else None
        self._laid = _Laid(
            rows=step.rows.to(self._device),
            places=step.places.to(self._device),
            steps=step.steps.to(self._device),
            longest=longest,
            visible=visible.to(self._device),
            positions=step.positions.to(self._device),
            families=families,
            first=first,
        )

    def attend(self, layer: int, query, key, value, scaling: float, softcap: float | None, window: int | None):
        """See `SplitAttention`."""
        step = self._laid
        assert step is not None
        heads, tokens, width = query.shape[1:]
        kv_heads, value_width = key.shape[1], value.shape[-1]
        grouped = (query[0] * scaling).view(kv_heads, heads // kv_heads, tokens, width)
        if step.first is None:
            keys, values = key, value
        else:
            keys, values = self._store(layer, step, step.first, key[0], value[0])
        own = _Part.of_rows(grouped, keys, values, step, softcap, window)
        for family in step.families:
            if layer in family.prefix.layers:
                own.add(family.tokens, _Part.of_prefix(grouped, family, layer, step, softcap, window))
        if isinstance(self._filling, _Kept):
            layers = self._filling.layers
            if layer in layers:
                key = torch.cat([layers[layer][0][None], key], dim=2)
                value = torch.cat([layers[layer][1][None], value], dim=2)
            layers[layer] = key[0].contiguous(), value[0].contiguous()
        return own.output.to(query.dtype).reshape(1, tokens, heads, value_width)

    def _make_room(self, length: int) -> None:
        self._capacity = -(-length // GROWTH) * GROWTH
        for layer, (keys, values) in self._buffers.items():
            if keys.shape[2] < self._capacity:
                self._buffers[layer] = (_longer(keys, self._capacity), _longer(values, self._capacity))

    def _store(self, layer: int, step: _Laid, first: int, key, value):
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
    def of_rows(cls, grouped, keys, values, step: _Laid, softcap, window) -> "_Part":
        """Every token over what its own row has: keys and values (rows, kv heads, places, width)."""
        kv_heads, group, _, width = grouped.shape
        rows, longest, length = step.visible.shape
        queries = grouped.permute(2, 0, 1, 3)
        if longest > 1:
            laid_out = queries.new_zeros(rows, longest, kv_heads, group, width)
            laid_out[step.rows, step.steps] = queries
            queries = laid_out.permute(0, 2, 3, 1, 4)
        queries = queries.reshape(rows, kv_heads, group * longest, width)
        if _can_flash(queries, values, softcap):
            output, total = _flash(queries, keys, values, step.mask(window, group, queries.dtype))
        else:
            scores = _capped((queries @ keys.transpose(-1, -2)).float(), softcap)
            scores = scores.view(rows, kv_heads, group, longest, length)
            scores = scores.masked_fill(~step.seen(window)[:, None, None], -torch.inf)
            output, total = _weigh(scores.view(rows, kv_heads, group * longest, length), values)
        output = output.view(rows, kv_heads, group, longest, -1).permute(0, 3, 1, 2, 4)
        total = total.view(rows, kv_heads, group, longest).permute(0, 3, 1, 2)
        if longest > 1:
            return cls(output[step.rows, step.steps], total[step.rows, step.steps])
        return cls(output[:, 0], total[:, 0])

    @classmethod
    def of_prefix(cls, grouped, family: _Members, layer: int, step: _Laid, softcap, window) -> "_Part":
        """A family's tokens over their prefix: keys and values (kv heads, tokens, width)."""
        keys, values = family.prefix.layers[layer]
        if family.tokens is not None:
            grouped = grouped[:, :, family.tokens]
        kv_heads, group, tokens, width = grouped.shape
        length = keys.shape[1]
        queries = grouped.reshape(kv_heads, group * tokens, width)
        windowed = window is not None and family.highest >= window
        # Of a token for which the window hides all keys it would say that they weigh something.
        if not windowed and _can_flash(queries, values, softcap):
            output, total = (one[0] for one in _flash(queries[None], keys[None], values[None]))
        else:
            scores = _capped((queries @ keys.transpose(-1, -2)).float(), softcap).view(kv_heads, group, tokens, length)
            if windowed:
                positions = step.positions if family.tokens is None else step.positions[family.tokens]
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


def _can_flash(queries: torch.Tensor, values: torch.Tensor, softcap: float | None) -> bool:
    # In half precision it rounds its output before the parts are put together.
    plain = queries.device.type == "cpu" and queries.dtype == torch.float32
    return plain and softcap is None and queries.shape[-1] == values.shape[-1]


def _flash(queries, keys, values, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention (rows, kv heads, queries, width), and its log-sum-exp without width."""
    output, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries, keys, values, attn_mask=mask, scale=1.0
    )
    return output, total


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
