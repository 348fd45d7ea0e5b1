"""What a decoder of packed rows asks of attention: keys and values kept, a shared prefix and own tokens both seen.

Two ways give it: `plain_attention`, in matmuls that run everywhere, and `varlen_attention`, torch's own flash attention
for sequences of any length, on GPUs that have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch


class Prefix:
    """A computed prefix; where its keys and values are, the attention that made it knows."""

    def __init__(self) -> None:
        #: Tokens that are computed.
        self.length = 0


@dataclass(frozen=True)
class Step:
    """Where the tokens of one forward belong: those of one row behind one another, row after row. All on the CPU.

    Rows are counted as their tokens are laid out.
    """

    #: Tokens that each row gets, and those that it has behind its prefix already: (rows,).
    counts: torch.Tensor
    known: torch.Tensor
    #: Of each row; while a prefix is computed it is that prefix, as far as it is there.
    prefixes: Sequence[Prefix]
    #: Of each row; None while a prefix is computed, which has no slot.
    slots: Sequence[int] | None

    @cached_property
    def longest(self) -> int:
        """The most tokens that a row gets."""
        return int(self.counts.max())

    @cached_property
    def lengths(self) -> torch.Tensor:
        """What each row has behind its prefix in the end: (rows,)."""
        return self.known + self.counts

    @cached_property
    def ends(self) -> torch.Tensor:
        """Behind the last token of each row: (rows,)."""
        return self.counts.cumsum(0)

    @cached_property
    def rows(self) -> torch.Tensor:
        """The row of every token."""
        return torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)

    @cached_property
    def steps(self) -> torch.Tensor:
        """Of every token, its place among those that its row gets."""
        return torch.arange(int(self.ends[-1])) - torch.repeat_interleave(self.ends - self.counts, self.counts)

    @cached_property
    def places(self) -> torch.Tensor:
        """Of every token, its place behind its row's prefix."""
        return self.known[self.rows] + self.steps

    @cached_property
    def behind(self) -> torch.Tensor:
        """The length of each row's prefix: (rows,)."""
        return torch.tensor([prefix.length for prefix in self.prefixes])

    @cached_property
    def positions(self) -> torch.Tensor:
        """Of every token, its position in the whole text."""
        return self.behind[self.rows] + self.places

    @cached_property
    def highest(self) -> int:
        """The highest of them."""
        return int(self.positions.max())


class SplitAttention(Protocol):
    """Attention over a prefix that rows share and over what each has of its own, and the memory for both."""

    #: What it is, in words.
    name: ClassVar[str]
    #: Tokens of several rows that should go through the model at a time, and those of a single one.
    prefill: ClassVar[int]
    chunk: ClassVar[int]

    def prefix(self, tokens: int) -> Prefix:
        """Room for a prefix of so many tokens; it is given back when nobody holds the prefix any more."""

    def keeps(self, prefix: Prefix) -> bool:
        """Whether `prefix` is one that it can use."""

    def has_room(self, tokens: int) -> bool:
        """Whether there is room for so many tokens."""

    def take(self, slot: int, tokens: int, must: bool = False) -> bool:
        """Make room for a row of up to so many tokens of its own; with `must`, come what may."""

    def drop(self, slot: int) -> None:
        """Give back what the row in `slot` has."""

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """The rows in the slots `sources`, with at most `length` tokens of their own, are to be in `targets`."""

    def order(self, prefixes: Sequence[Prefix]) -> Sequence[int]:
        """In which order rows with these prefixes should be laid out."""

    def begin(self, step: Step) -> None:
        """What follows are the layers of this step."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float,
        softcap: float | None, window: int | None,
    ) -> torch.Tensor:  # fmt: skip
        """Attention of one layer: query (1, heads, tokens, width), key and value (1, kv heads, tokens, width).

        Keeps the new keys and values. Returns (1, tokens, heads, value width).
        """


def to_device(tensors: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Tensors of integers on `device`, in one copy that nobody waits for."""
    if device.type == "cpu":
        return list(tensors)
    together = torch.cat(list(tensors))
    if device.type == "cuda":
        together = together.pin_memory()
    return list(together.to(device, non_blocking=True).split([len(one) for one in tensors]))
