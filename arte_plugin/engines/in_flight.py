"""The requests of a batch on their way through a model in this process."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Literal

import torch

from arte_plugin.engines.attention import Prefix, SplitAttention
from arte_plugin.engines.base import Completion, Keep, Request, TokenRequest
from arte_plugin.engines.endings import ending_strings, reply_end
from arte_plugin.engines.limits import WORTH_SHARING

#: The most that padding may add to the tokens of a padded batch.
WASTE = 0.1


class Row:
    """One request on its way: its prompt's tokens, what was generated so far, and whether it is over."""

    def __init__(self, request: Request, tokenizer, ends: Sequence[int], place: int = 0, keep: Keep | None = None):
        self.request = request
        self.prompt: list[int] = (
            list(request.tokens)
            if isinstance(request, TokenRequest)
            else tokenizer(request.prompt, add_special_tokens=False)["input_ids"]
        )
        self.tokens: list[int] = []
        self.finish: Literal["stop", "length"] | None = None
        #: How many tokens it shares with its family, whose prefix is there while the row is in flight.
        self.shared = 0
        self.family: Family = _ALONE
        #: How many of its other tokens, generated ones among them, are computed.
        self.length = 0
        #: Its own random numbers. On the CPU, so that a seed means the same on every device.
        self.random = torch.Generator().manual_seed(request.seed) if request.temperature > 0 else None
        self._tokenizer = tokenizer
        self._ends = [*ends, *request.ends] if isinstance(request, TokenRequest) else ends
        self._place, self._keep = place, keep
        # A token is a byte at least; the few more are for a first token that is decoded differently in that place.
        self._endings = ending_strings(request)
        self._tail = max((len(one.encode()) for one in self._endings), default=0) + 4
        #: How many tokens the reply may have, its thought among them; unknown until the thought is over.
        self._most: int | None = None if request.thought else request.max_new_tokens

    @property
    def prefix(self) -> Prefix:
        """What is computed of its family's prefix."""
        return self.family.prefix or _NOTHING

    @property
    def own(self) -> list[int]:
        """The prompt behind the shared prefix: a token at least."""
        return self.prompt[self.shared :]

    def take(self, token: int) -> None:
        """Add a generated token, which may be the last one."""
        self.tokens.append(token)
        if self._most is None:
            self._think(token)
        elif token in self._ends or self._is_over():
            self.finish = "stop"
        elif len(self.tokens) >= self._most:
            self.finish = "length"
        if self.finish is not None and self._keep is not None:
            self._keep(self._place, self.completion())

    def completion(self) -> Completion:
        """What the row came to, once it is over."""
        text = self._decode(self.tokens)
        end = reply_end(self.request, text)
        stopped = end is not None or self.finish == "stop"
        return Completion(text[:end], "stop" if stopped else "length", len(self.prompt), len(self.tokens))

    def _think(self, token: int) -> None:
        """Take a token of the thought, which may end it, or be one too many."""
        thought = self.request.thought
        assert thought is not None
        if token in self._ends:
            self.finish = "stop"
        elif thought.end in self._decode(self.tokens[-self._tail :]):
            self._most = len(self.tokens) + self.request.max_new_tokens
        elif len(self.tokens) >= thought.max_tokens:
            self.finish = "length"

    def _is_over(self) -> bool:
        """Whether the last token has completed what ends the reply."""
        tail = self._decode(self.tokens[-self._tail :])
        if not any(one in tail for one in self._endings):
            return False
        # The whole reply has a say in whether an answer tag ends it.
        text = self._decode(self.tokens)
        return reply_end(self.request, text, len(text) - len(tail)) is not None

    def _decode(self, tokens: list[int]) -> str:
        written = [token for token in tokens if token not in self._ends]
        skip = self.request.thought is None
        return self._tokenizer.decode(written, skip_special_tokens=skip, clean_up_tokenization_spaces=False)


class Family:
    """Rows whose prompts begin alike, and that beginning."""

    def __init__(self, rows: list[Row]):
        self.rows = rows
        prompts = [row.prompt for row in rows]
        alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))
        shared = min(alike, min(map(len, prompts)) - 1) if len(rows) > 1 else 0
        self.tokens: list[int] = prompts[0][:shared] if shared >= WORTH_SHARING else []
        #: Made when the first of the rows is admitted.
        self.prefix: Prefix | None = None
        for row in rows:
            row.shared, row.family = len(self.tokens), self


#: Of rows that share nothing.
_ALONE, _NOTHING = Family([]), Prefix()


def families(rows: Sequence[Row]) -> list[Family]:
    """Rows that share a prefix, and their prefix; requests without siblings may have one in common as well."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.request.group, []).append(row)
    singles = [siblings[0] for siblings in groups.values() if len(siblings) == 1]
    found = [Family(siblings) for siblings in groups.values() if len(siblings) > 1]
    return [*found, *([Family(singles)] if singles else [])]


def close_up(active: list[Row], kept: SplitAttention) -> None:
    """Take out the rows that are over, each replaced by the last one, so that those in flight stay side by side."""
    slots = list(range(len(active)))
    for slot in reversed(slots):
        if active[slot].finish is None:
            continue
        active[slot].family = _ALONE  # A prefix without a row is given up.
        kept.drop(slots[slot])
        last, its_slot = active.pop(), slots.pop()
        if slot < len(active):
            active[slot], slots[slot] = last, its_slot
    moved = [(source, target) for target, source in enumerate(slots) if source != target]
    if moved:
        sources, targets = zip(*moved, strict=True)
        kept.move(sources, targets, max(active[target].length for target in targets))


def by_length(rows: Iterable[Row], most: int) -> Iterator[list[Row]]:
    """Batches of at most `most` rows, by length, in which padding adds at most `WASTE` to the tokens."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        tokens = sum(len(one.prompt) for one in batch) + len(row.prompt)
        if batch and (len(batch) == most or (len(batch) + 1) * len(row.prompt) > (1 + WASTE) * tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
