"""Attention over a shared prefix and own tokens by torch's own flash attention for sequences of any length.

Two calls a layer, whatever the number of families: one over all prefixes, with the queries sorted by prefix, and one
over what each row has of its own; then they are put together by their log-sum-exp. All keys and values lie in one pool
a layer, and the kernel is told where a sequence begins and how long it is, so nothing is gathered or copied, and a step
has as many operations with seven prefixes as with one. Nothing in a step waits for the GPU.
"""

import weakref
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from arte_plugin.engines.attention import Prefix, Step, to_device
from arte_plugin.engines.limits import VARLEN, why_plain

#: The oldest GPUs that torch's flash attention runs on (Ampere).
CAPABILITY = (8, 0)


class _Placed(Prefix):
    """With its place in the pool."""

    def __init__(self, start: int):
        super().__init__()
        self.start = start


@dataclass
class _Row:
    """Where the row in a slot has its own tokens, and room for how many."""

    start: int
    tokens: int


@dataclass(frozen=True)
class _Sequences:
    """One call's sequences: of each, where its queries begin, where its keys begin, and how many those are."""

    queries: torch.Tensor
    starts: torch.Tensor
    used: torch.Tensor
    #: The most of both, and the number of tokens that the queries are of.
    most_queries: int
    most_keys: int
    tokens: int
    #: Which of the tokens see no key (None: none of them).
    blind: torch.Tensor | None = None


class Pool:
    """Which tokens of the pool are free: the first gap that is large enough is taken."""

    def __init__(self, size: int):
        self.size = size
        self._gaps = [(0, size)] if size else []

    def take(self, tokens: int) -> int | None:
        """Where so many tokens have room, which they now have; None if nowhere."""
        for place, (start, length) in enumerate(self._gaps):
            if length >= tokens:
                self._gaps[place : place + 1] = [(start + tokens, length - tokens)] if length > tokens else []
                return start
        return None

    def has_room(self, tokens: int) -> bool:
        """Whether a gap is large enough."""
        return any(length >= tokens for _, length in self._gaps)

    def give(self, start: int, tokens: int) -> None:
        """Free what was taken."""
        if not tokens:
            return
        insort(self._gaps, (start, tokens))
        joined: list[tuple[int, int]] = []
        for begin, length in self._gaps:
            if joined and sum(joined[-1]) == begin:
                joined[-1] = (joined[-1][0], joined[-1][1] + length)
            else:
                joined.append((begin, length))
        self._gaps = joined

    def grow(self, tokens: int) -> None:
        """Add what is missing at the end for so many tokens."""
        start, length = self._gaps[-1] if self._gaps else (0, 0)
        more = tokens - (length if start + length == self.size else 0)
        self.give(self.size, more)
        self.size += more


class VarlenAttention:
    """All rows and prefixes in one pool of `tokens` tokens a layer; it grows only for a row that would be alone."""

    name: ClassVar[str] = "torch's variable-length flash attention"
    prefill: ClassVar[int] = VARLEN.prefill
    chunk: ClassVar[int] = VARLEN.chunk

    def __init__(self, tokens: int):
        self._pool = Pool(tokens)
        self._rows: dict[int, _Row] = {}
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._step: Step | None = None
        #: What a step's calls are told, by device, group and window, and where its new tokens go, by device.
        self._calls: dict[tuple[Any, ...], tuple[_Sequences, _Sequences | None]] = {}
        self._new: dict[torch.device, torch.Tensor] = {}

    def prefix(self, tokens: int) -> Prefix:
        """Room for a prefix in the pool, which grows if it must."""
        start = self._place(tokens)
        made = _Placed(start)
        if tokens:
            weakref.finalize(made, self._pool.give, start, tokens)
        return made

    def keeps(self, prefix: Prefix) -> bool:
        """Only what lies in this pool, and a prefix of another is in one that is gone."""
        return False

    def has_room(self, tokens: int) -> bool:
        """Whether there is a gap of so many tokens."""
        return self._pool.has_room(tokens)

    def take(self, slot: int, tokens: int, must: bool = False) -> bool:
        """Room for a row in the pool."""
        if not must and not self._pool.has_room(tokens):
            return False
        self._rows[slot] = _Row(self._place(tokens), tokens)
        return True

    def drop(self, slot: int) -> None:
        """What the row had is free."""
        row = self._rows.pop(slot)
        self._pool.give(row.start, row.tokens)

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Slots are names here: nothing is copied."""
        rows = [self._rows.pop(slot) for slot in sources]
        self._rows.update(zip(targets, rows, strict=True))

    def order(self, prefixes: Sequence[Prefix]) -> Sequence[int]:
        """By prefix, and those without one behind: the first call's queries then are the first tokens as they lie."""
        return sorted(range(len(prefixes)), key=lambda row: (prefixes[row].length == 0, _start(prefixes[row]), row))

    def begin(self, step: Step) -> None:
        """What follows are the layers of this step."""
        self._step = step
        self._calls.clear()
        self._new.clear()

    def attend(self, layer: int, query, key, value, scaling: float, softcap: float | None, window: int | None):
        """See `SplitAttention`."""
        step = self._step
        assert step is not None
        if softcap is not None:
            raise NotImplementedError("flash attention without capped scores")
        heads, tokens, width = query.shape[1:]
        kv_heads, group = key.shape[1], heads // key.shape[1]
        # As transformers' own flash attention does where a norm has left them in float32.
        queries = query[0].transpose(0, 1).to(value.dtype)
        keys, values = self._store(layer, key[0].transpose(0, 1).to(value.dtype), value[0].transpose(0, 1))
        window = window if window is not None and step.highest >= window else None
        single = step.longest == 1
        own, shared = self._sequences(query.device, group, window)
        # The heads of a group see the same keys: as so many queries of one head, which reads them once.
        grouped = queries.reshape(tokens, kv_heads, group, width).transpose(1, 2)
        if single or shared:
            packed = grouped.reshape(tokens * group, kv_heads, width)
        if single:
            output, total = _flash(packed, keys, values, own, scaling)
        else:
            output, total = _flash(queries, keys, values, own, scaling, causal=True, window=window)
            output = output.view(tokens, kv_heads, group, -1).transpose(1, 2).reshape(tokens * group, kv_heads, -1)
            total = total.view(kv_heads, group, tokens).transpose(1, 2).reshape(kv_heads, -1)
        if shared:
            end = shared.tokens * group
            first, of_first = _flash(packed[:end], keys, values, shared, scaling)
            if shared.blind is not None:
                of_first = of_first.masked_fill(shared.blind, -torch.inf)
            # Two parts' softmax by their log-sum-exp: one is never empty, for a token sees itself.
            weight = torch.sigmoid(of_first - total[:, :end]).transpose(0, 1)[..., None]
            both = torch.lerp(output[:end].float(), first.float(), weight).to(output.dtype)
            output = both if end == len(output) else torch.cat([both, output[end:]])
        output = output.view(tokens, group, kv_heads, -1).transpose(1, 2)
        return output.reshape(1, tokens, heads, -1).to(query.dtype)

    def _place(self, tokens: int) -> int:
        start = self._pool.take(tokens) if tokens else 0
        if start is None:
            self._pool.grow(tokens)
            start = self._pool.take(tokens)
            assert start is not None
        return start

    def _store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put a step's keys and values (tokens, kv heads, width) into the pool."""
        keys, values = self._buffers.get(layer) or (key[:0], value[:0])
        if len(keys) < self._pool.size:
            keys, values = (_longer(one, self._pool.size) for one in (keys, values))
            self._buffers[layer] = keys, values
        new = self._new.get(key.device)
        if new is None:
            [new] = to_device([self._places()], key.device)
            self._new[key.device] = new
        keys.index_copy_(0, new, key)
        values.index_copy_(0, new, value)
        return keys, values

    def _places(self) -> torch.Tensor:
        """Where in the pool a step's new tokens go."""
        step = self._step
        assert step is not None
        return self._starts(step)[step.rows] + step.places

    def _starts(self, step: Step) -> torch.Tensor:
        """Where in the pool each row's tokens begin that are no prefix of it, or that go on with the prefix itself."""
        if step.slots is None:
            return torch.tensor([_start(prefix) + prefix.length for prefix in step.prefixes])
        return torch.tensor([self._rows[slot].start for slot in step.slots])

    def _sequences(self, device: torch.device, group: int, window: int | None) -> tuple[_Sequences, _Sequences | None]:
        """A step's two calls: over what rows have of their own, and over their prefixes."""
        at = device, group, window
        if at not in self._calls:
            assert self._step is not None
            self._calls[at] = self._own(self._step, *at), self._shared(self._step, *at)
        return self._calls[at]

    def _own(self, step: Step, device: torch.device, group: int, window: int | None) -> _Sequences:
        starts, used = self._starts(step), step.lengths
        if step.slots is None:
            # A prefix goes on behind what is there of it, and is one sequence with it.
            starts, used = starts - step.behind, used + step.behind
        if step.longest > 1:
            return _sequences(step.counts, starts, used, len(step.rows), device)
        if window is not None:
            starts, used = starts + (used - window).clamp_min(0), used.clamp_max(window)
        return _sequences(step.counts * group, starts, used, len(step.rows), device)

    def _shared(self, step: Step, device: torch.device, group: int, window: int | None) -> _Sequences | None:
        if step.slots is None or not step.behind.any():
            return None
        within = int((step.behind > 0).sum())
        starts = torch.tensor([_start(prefix) for prefix in step.prefixes[:within]])
        if window is None:
            # Rows with the same prefix lie behind one another.
            starts, family, counts = starts.unique_consecutive(return_inverse=True, return_counts=True)
            firsts = counts.cumsum(0) - counts
            tokens = torch.zeros_like(starts).index_add_(0, family, step.counts[:within])
            return _sequences(tokens * group, starts, step.behind[firsts], int(tokens.sum()), device)
        # Each token sees another piece of its prefix, and is a sequence of its own.
        rows = step.rows[step.rows < within]
        hidden = (step.positions[: len(rows)] - window + 1).clamp_min(0).minimum(step.behind[rows])
        used = step.behind[rows] - hidden
        blind = (used == 0).repeat_interleave(group) if bool((used == 0).any()) else None
        return _sequences(torch.full_like(rows, group), starts[rows] + hidden, used, len(rows), device, blind)


def why_not(model: Any) -> str:
    """Why a model can't have this attention here, in words; empty if it should be tried."""
    device = model.get_input_embeddings().weight.device
    config = model.config.get_text_config(decoder=True)
    if device.type != "cuda":
        return f"the model is on a {device.type.upper()}"
    if (found := torch.cuda.get_device_capability(device)) < CAPABILITY:
        return f"the GPU is older than Ampere (compute capability {found[0]}.{found[1]})"
    return why_plain(config, str(model.dtype).removeprefix("torch."))


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, given: _Sequences, scaling: float,
    causal: bool = False, window: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Output (queries, heads, width) and log-sum-exp (heads, queries)."""
    output, total, *_ = torch.ops.aten._flash_attention_forward(
        query, key, value, given.queries, given.starts, given.most_queries, given.most_keys, 0.0,
        causal and window is None, False,
        scale=scaling, window_size_left=-1 if window is None else window - 1,
        window_size_right=0 if causal else -1, seqused_k=given.used,
    )  # fmt: skip
    return output, total


def _sequences(
    queries: torch.Tensor, starts: torch.Tensor, used: torch.Tensor, tokens: int, device: torch.device,
    blind: torch.Tensor | None = None,
) -> _Sequences:  # fmt: skip
    """What a call is told of its sequences, with `queries` of each; the last start is no one's, but asked for."""
    begins = torch.nn.functional.pad(queries.cumsum(0), (1, 0))
    parts = to_device([begins, torch.cat([starts, starts[-1:] + used[-1:]]), used], device)
    begins, starts, lengths = (part.to(torch.int32) for part in parts)
    most_queries, most_keys = int(queries.max()), max(1, int(used.max()))
    return _Sequences(
        begins, starts, lengths, most_queries, most_keys, tokens, None if blind is None else blind.to(device)
    )


def _start(prefix: Prefix) -> int:
    return prefix.start if isinstance(prefix, _Placed) else 0


def _longer(buffer: torch.Tensor, length: int) -> torch.Tensor:
    longer = buffer.new_zeros(length, *buffer.shape[1:])
    longer[: len(buffer)] = buffer
    return longer
