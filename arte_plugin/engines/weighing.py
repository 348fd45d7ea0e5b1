"""How likely a loaded model finds given continuations, as multiple choice asks: nothing computed twice or padded.

What the contexts begin with (few-shot examples) is computed once. A context is computed once for all its continuations,
whose first tokens the logits at its end tell of already; the others follow on it one after the other, each in the place
of the last.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from arte_plugin.engines.attention import Prefix, SplitAttention
from arte_plugin.engines.base import Continuation, Weighed
from arte_plugin.engines.limits import WORTH_SHARING
from arte_plugin.engines.plain_attention import CHUNK
from arte_plugin.engines.shared_prefix import SharedPrefixModel

#: Tokens that a common beginning must save in all: it has a forward of its own, as have the contexts behind it, and
#: those of other beginnings wait for theirs.
WORTH_A_FORWARD = 256

#: Tokens of several contexts that go through the model at a time, by the plain attention: it holds its scores whole.
AT_A_TIME = 4 * CHUNK

#: Tokens whose logits are in float32 at a time: a large vocabulary makes a megabyte of each.
SCORED_AT_A_TIME = 256


@dataclass
class _Context:
    """A context that continuations follow on: its own tokens, and the continuations with their places in the batch."""

    tokens: tuple[int, ...]
    endings: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    @property
    def written(self) -> tuple[int, ...]:
        """What goes through the model first: with a single continuation that one, too, up to its last token."""
        return self.tokens + self._only[:-1]

    @property
    def scored(self) -> int:
        """How many of the last logits of `written` tell of continuations."""
        return max(1, len(self._only))

    @property
    def later(self) -> list[tuple[int, ...]]:
        """The continuations that have to be computed behind the context, one by one."""
        return [] if self._only else [one for one in self.endings if len(one) > 1]

    @property
    def most(self) -> int:
        """The most tokens that there are at a time: of the context, and of a continuation up to its last."""
        return max(len(self.written), *(len(self.tokens) + len(one) - 1 for one in self.later), 0)

    @property
    def _only(self) -> tuple[int, ...]:
        return next(iter(self.endings)) if len(self.endings) == 1 else ()


@torch.inference_mode()
def weigh(
    model: Any, continuations: Sequence[Continuation], attention: Callable[[int], SplitAttention] | None = None
) -> list[Weighed]:
    """How likely `model` finds each of `continuations`, in their order; whatever the model's precision, in float32.

    By an `attention` that is made for a number of tokens, or by the plain one. Raises `ValueError` for one without
    tokens or without a context.
    """
    contexts: dict[tuple[int, ...], _Context] = {}
    for place, one in enumerate(continuations):
        if not one.context or not one.tokens:
            raise ValueError("a continuation needs a token at least, and one before it")
        context = contexts.setdefault(one.context, _Context(one.context))
        context.endings.setdefault(one.tokens, []).append(place)
    totals, greedy = [0.0] * len(continuations), [True] * len(continuations)
    for family, shared in _families(sorted(contexts.values(), key=lambda context: context.tokens)):
        for places, log_probability, best in _of_family(model, family, shared, attention):
            for place in places:
                totals[place] += log_probability
                greedy[place] &= best
    return [Weighed(*one) for one in zip(totals, greedy, strict=True)]


def _families(contexts: Sequence[_Context]) -> Iterator[tuple[list[_Context], int]]:
    """Contexts, sorted by their tokens, that have a beginning in common which is worth it; and how many tokens it has.

    Last the others, which share nothing. Of a whole context the beginning is one short at most: its last token's logits
    are wanted of each.
    """
    others: list[_Context] = []
    for family, shared in _alike_ones(contexts):
        if shared * (len(family) - 1) >= WORTH_A_FORWARD:
            yield family, shared
        else:
            others += family
    if others:
        yield others, 0


def _alike_ones(contexts: Sequence[_Context]) -> Iterator[tuple[list[_Context], int]]:
    family: list[_Context] = []
    shared = 0
    for context in contexts:
        alike = _alike(family[-1].tokens, context.tokens) if family else 0
        if family and min(alike, shared) < WORTH_SHARING:
            yield family, shared
            family = []
        shared = min(alike, shared) if family else len(context.tokens) - 1
        family.append(context)
    if family:
        yield family, shared


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with, short of the last of either."""
    most = min(len(one), len(other)) - 1
    return next((place for place in range(most) if one[place] != other[place]), most)


#: Of a token that was scored: the continuations that it belongs to, its log-probability, whether it is the likeliest.
_Score = tuple[list[int], float, bool]


def _of_family(
    model: Any, family: Sequence[_Context], shared: int, attention: Callable[[int], SplitAttention] | None
) -> Iterator[_Score]:
    # Those of a length side by side; those with most to be computed later first, so that they are side by side, too.
    most = attention(0).prefill if attention else AT_A_TIME
    parts = list(_at_a_time(sorted(family, key=lambda one: -len(one.written)), shared, most))
    kept = attention(shared + max(sum(one.most - shared for one in some) for some in parts)) if attention else None
    packed = SharedPrefixModel(model, 1, kept)
    prefix = Prefix()
    if shared:
        with packed.attention():
            prefix = packed.prefix(family[0].tokens[:shared])
    for some in parts:
        some.sort(key=lambda one: -len(one.later))
        # The plain one has as much room for each row as for the longest so far.
        packed = SharedPrefixModel(model, len(some), kept)
        for slot, one in enumerate(some):
            packed.kept.take(slot, one.most - shared, must=True)
        with packed.attention():
            yield from _of_contexts(packed, some, prefix, shared)
        for slot in range(len(some)):
            packed.kept.drop(slot)


def _at_a_time(contexts: Sequence[_Context], shared: int, most: int) -> Iterator[list[_Context]]:
    """As many as go through the model together: `most` tokens, and a bounded size of their attention."""
    some: list[_Context] = []
    longest = 0
    for one in contexts:
        longest = max(longest, len(one.written) - shared)
        tokens = (len(some) + 1) * longest
        if some and (tokens > most or tokens * longest > most * CHUNK):
            yield some
            some, longest = [], len(one.written) - shared
        some.append(one)
    if some:
        yield some


def _of_contexts(
    packed: SharedPrefixModel, contexts: Sequence[_Context], prefix: Prefix, shared: int
) -> Iterator[_Score]:
    own = [one.written[shared:] for one in contexts]
    wanted: list[list[tuple[int, list[int], int]]] = [[] for _ in contexts]
    for row, one in enumerate(contexts):
        for ending, places in one.endings.items():
            told = ending if one.scored == len(ending) else ending[:1]
            wanted[row] += [(step, places, token) for step, token in enumerate(told)]
    yield from _scores(packed, own, [0] * len(own), prefix, [one.scored for one in contexts], wanted)
    for turn in range(len(contexts[0].later)):
        following = [(one, one.later[turn]) for one in contexts if len(one.later) > turn]
        # Each overwrites what the last has left behind its context.
        yield from _scores(
            packed,
            [ending[:-1] for _, ending in following],
            [len(one.tokens) - shared for one, _ in following],
            prefix,
            [len(ending) - 1 for _, ending in following],
            [
                [(step, one.endings[ending], token) for step, token in enumerate(ending[1:])]
                for one, ending in following
            ],
        )


def _scores(
    packed: SharedPrefixModel,
    new: Sequence[Sequence[int]],
    known: Sequence[int],
    prefix: Prefix,
    scored: Sequence[int],
    wanted: Sequence[Sequence[tuple[int, list[int], int]]],
) -> Iterator[_Score]:
    """Put `new` behind the rows; `wanted` of each, by the place among its `scored` last tokens, what follows there."""
    # A long row is alone, and passes piece after piece: attention's scores are held whole.
    piece = CHUNK if len(new) == 1 else max(map(len, new))
    for start in range(0, max(map(len, new)), piece):
        tokens = [row[start : start + piece] for row in new]
        # Of a piece before the scored tokens one is computed all the same.
        first = [max(start, len(row) - count) for row, count in zip(new, scored, strict=True)]
        last = [max(1, start + len(part) - begin) for part, begin in zip(tokens, first, strict=True)]
        logits = packed.extend(0, tokens, [length + start for length in known], [prefix] * len(new), last)
        asked = []
        row_begins = 0
        for row, (count, kept) in enumerate(zip(last, scored, strict=True)):
            skipped = first[row] - (len(new[row]) - kept)
            asked += [
                (row_begins + step - skipped, places, token)
                for step, places, token in wanted[row]
                if 0 <= step - skipped < count and first[row] < start + len(tokens[row])
            ]
            row_begins += count
        if asked:
            yield from _read(logits, asked)


def _read(logits: torch.Tensor, asked: Sequence[tuple[int, list[int], int]]) -> Iterator[_Score]:
    """The scores of tokens, each at its row of (tokens, vocabulary) logits."""
    rows = torch.tensor([row for row, _, _ in asked], device=logits.device)
    tokens = torch.tensor([token for _, _, token in asked], device=logits.device)
    for start in range(0, len(logits), SCORED_AT_A_TIME):
        some = logits[start : start + SCORED_AT_A_TIME].float()
        inside = ((rows >= start) & (rows < start + len(some))).nonzero()[:, 0]
        places = rows[inside] - start
        values = some[places, tokens[inside]] - some.logsumexp(-1)[places]
        best = some.argmax(-1)[places] == tokens[inside]
        for index, value, likeliest in zip(inside.tolist(), values.tolist(), best.tolist(), strict=True):
            yield asked[index][1], value, likeliest
