"""Runs a loaded transformers model in this process: shared prefixes, stop strings, sampling by the seed alone."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from arte_plugin.engines import limits
from arte_plugin.engines.attention import SplitAttention
from arte_plugin.engines.base import Completion, Continuation, Keep, Likelihood, Reply, Request, Weighed
from arte_plugin.engines.in_flight import Family, Row, by_length, close_up, families
from arte_plugin.engines.likelihood import log_likelihoods, reply_tokens
from arte_plugin.engines.packed_linears import PackedLinears
from arte_plugin.engines.plain_attention import PlainAttention
from arte_plugin.engines.sampling import choose, draw
from arte_plugin.engines.shared_prefix import SharedPrefixModel, can_share, compare, token_bytes
from arte_plugin.engines.varlen_attention import VarlenAttention, why_not
from arte_plugin.engines.weighing import weigh
from arte_plugin.errors import DataError
from arte_plugin.models.loaded import describe_model
from arte_plugin.models.memory import free_bytes, release
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: Rows in flight at a time: more make a step longer, but hardly a token cheaper. On a CPU the 40 siblings of one draft
#: are to fit: a few that are left for the end would take half as long again. Variable-length attention has its own.
MOST_ROWS = {"cpu": 64, "cuda": limits.PLAIN.rows}
MOST_VARLEN_ROWS = limits.VARLEN.rows


class TransformersEngine:
    """Completes batches with a model that is loaded and placed already; a PEFT or quantised model will do.

    Requests that share a prefix have it computed and stored once (`shared_prefix`); a row that ends makes room for the
    next one of the batch. `memory` bytes bound the keys and values of what is in flight; by default 4 GiB, on a GPU a
    share of what is free. On a GPU, torch's variable-length flash attention is tried first, against the plain way, and
    taken where it comes to the same. Models whose attention can't be split are left to `generate`. A reply is over at
    a token of `ends`, as well as at the checkpoint's and the tokenizer's own end of sequence.
    """

    def __init__(self, model, tokenizer, memory: float | None = None, ends: Sequence[int] = ()):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._base = model.get_base_model() if hasattr(model, "get_base_model") else model
        # Now: on a CPU bitsandbytes packs 4-bit weights anew when they are first used.
        self._described = describe_model(model)
        named = getattr(self._base.generation_config, "eos_token_id", None)
        ends = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id, *ends]
        self._ends = sorted({token for token in ends if token is not None})
        self._pad = next(token for token in (tokenizer.pad_token_id, *self._ends, 0) if token is not None)
        config = self._base.config.get_text_config(decoder=True)
        self._positions: int | None = getattr(config, "max_position_embeddings", None)
        self._vocabulary: int = config.vocab_size
        self._memory = memory
        self._token_bytes = token_bytes(self._base)
        self._most_rows = MOST_ROWS.get(self._base.device.type, max(MOST_ROWS.values()))
        #: Why something that was to be done is not.
        self._reasons: dict[str, str] = {}
        #: Whether attention can be split, and in the fast way; unknown until there is something to try it on.
        self._shares: bool | None = None
        self._varlen = False
        self._linears = PackedLinears(model)
        #: The prefix of the batch before, and what the model was then.
        self._last: Family | None = None
        self._last_state: Any = None
        self._asked = self._computed = 0

    def generate(self, batch: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        """Complete `batch`, in its order; `keep` hears of each completion as soon as it is there.

        Raises `DataError` for a request that is empty, or doesn't fit into the model's context.
        """
        rows = [Row(request, self.tokenizer, self._ends, place, keep) for place, request in enumerate(batch)]
        for row in rows:
            self._check_length(row)
        if not rows:
            return []
        self.model.eval()  # A trainer may have had it in between; this also turns gradient checkpointing off.
        share = self._can_share(rows[0].prompt)
        if (state := _state(self.model)) != self._last_state:
            self._last, self._last_state = None, state
        with self._linears.used():
            if share:
                self._run_shared(rows)
            else:
                for some in by_length(rows, self._rows_at_a_time(rows)):
                    self._run_padded(some)
        return [row.completion() for row in rows]

    def likelihoods(self, batch: Sequence[Reply]) -> list[Likelihood]:
        """How likely the model finds each of `batch`, in its order. Raises `DataError` as `log_likelihoods`."""
        self.model.eval()
        share = self._can_share(reply_tokens(batch[0], self.tokenizer)[0])
        attention = VarlenAttention if self._varlen else None
        with self._linears.used():
            return log_likelihoods(self.model, self.tokenizer, batch, share, attention)

    def weigh(self, batch: Sequence[Continuation]) -> list[Weighed] | None:
        """How likely the model finds each of `batch`, in its order; None for a model whose attention can't be split."""
        self.model.eval()
        if batch and not self._can_share([*batch[0].context, *batch[0].tokens]):
            return None
        with self._linears.used():
            return weigh(self.model, batch, VarlenAttention if self._varlen else None)

    def report(self) -> str:
        """How much of the prompts had to be computed, since the last report; empty where hardly anything is shared."""
        asked, computed = self._asked, self._computed
        self._asked = self._computed = 0
        if computed >= 0.95 * asked:
            return ""
        return f"{computed:,} prompt tokens computed for {asked:,} asked ({100 * computed / asked:.0f} %)"

    def describe(self) -> dict[str, Any]:
        """What the model really is, and how it was run: with shared prefixes, by variable-length attention."""
        how = {"shared": bool(self._shares), "varlen": self._varlen, "packed": bool(self._linears)}
        return {**self._described, **how, **({"why_not": self._reasons} if self._reasons else {})}

    def close(self) -> None:
        """Give back the memory: the engine can't be used any more, and the caller lets go of the model itself."""
        self._last = None
        self._linears.close()
        self.model = self._base = None
        release()

    def _check_length(self, row: Row) -> None:
        if not row.prompt:
            raise DataError("A prompt is empty: there is nothing that a reply could follow on.")
        wanted = len(row.prompt) + row.request.most_new_tokens
        if self._positions is not None and wanted > self._positions:
            raise DataError(
                f"A prompt of {len(row.prompt)} tokens and a reply of up to {row.request.most_new_tokens} don't fit "
                f"into the model's {self._positions} positions. Lower max_new_tokens, use fewer shots or shorter "
                f"questions, or take a model with a longer context. The prompt begins: {row.request.prompt[:200]!r}"
            )

    def _can_share(self, tokens: Sequence[int]) -> bool:
        if self._shares is None:
            self._choose(tokens)
        return bool(self._shares)

    def _choose(self, tokens: Sequence[int]) -> None:
        """Find out which attention the model can have, and say so."""
        reason = can_share(self.model, tokens)
        self._shares = not reason
        if reason:
            self._reasons["shared"] = reason
            LOG.warning("Shared prefixes are off, padded batches are used instead: %s.", reason)
            return
        impossible = why_not(self._base)
        failed = "" if impossible else compare(self.model, tokens, lambda: VarlenAttention(0))
        self._varlen = not (impossible or failed)
        if not self._on_gpu():
            return
        if self._varlen:
            LOG.info("Attention over shared prefixes: %s, which agrees with the plain way.", VarlenAttention.name)
            return
        self._reasons["varlen"] = impossible or failed
        LOG.log(
            logging.WARNING if failed else logging.INFO, "Attention over shared prefixes: %s, not %s: %s.",
            PlainAttention.name, VarlenAttention.name, impossible or failed,
        )  # fmt: skip

    def _on_gpu(self) -> bool:
        return self._base.device.type == "cuda"

    def _budget(self) -> float:
        """Bytes for the keys and values of what is in flight."""
        if self._memory is not None:
            return self._memory
        free = free_bytes(self._base.device)
        return limits.MEMORY if free is None else limits.SHARE * free

    def _rows_at_a_time(self, rows: Sequence[Row]) -> int:
        """How many of `rows`, in their order, the memory allows: as long as the longest, beside prefixes.

        Those are what the rows in flight have, the one of the last batch, and the next while it is made.
        """
        longest = max(map(_most_own, rows))
        room = self._budget() / self._token_bytes - 2 * max(row.shared for row in rows)
        new = [row.shared if row.family is not last.family else 0 for last, row in pairwise(rows)]
        before = [0, 0, *accumulate(new)]

        def fits(slots: int) -> bool:
            starts = range(len(rows) - slots + 1)
            # The family of the first one may have begun before it.
            held = max(rows[start].shared + before[start + slots] - before[start + 1] for start in starts)
            return slots * longest + held <= room

        allowed = range(min(self._most_rows, len(rows)), 1, -1)
        return next((slots for slots in allowed if fits(slots)), 1)

    def _attention(self, rows: Sequence[Row]) -> tuple[int, SplitAttention]:
        """How many of `rows` may be in flight, and the attention that holds them."""
        if not self._varlen:
            slots = self._rows_at_a_time(rows)
            return slots, PlainAttention(slots, self._base.get_input_embeddings().weight.device)
        budget = self._budget()
        slots = limits.varlen_rows(budget, len(rows), self._vocabulary)
        own = sorted((_most_own(row) for row in rows), reverse=True)[:slots]
        prefixes = sum(len(one.tokens) for one in {id(row.family): row.family for row in rows}.values())
        return slots, VarlenAttention(min(int(budget / self._token_bytes), sum(own) + prefixes))

    @torch.inference_mode()
    def _run_shared(self, rows: list[Row]) -> None:
        """Complete `rows`: as long as some wait, those that end are replaced."""
        waiting = deque(row for family in families(rows) for row in family.rows)
        slots, kept = self._attention(list(waiting))
        if self._last is not None and self._last.prefix is not None and not kept.keeps(self._last.prefix):
            self._last = None
        packed = SharedPrefixModel(self.model, slots, kept)
        active: list[Row] = []
        full = slots
        with packed.attention():
            while waiting or active:
                # A few at a time: one row alone is as slow as several together.
                if waiting and (not active or full - len(active) >= min(len(waiting), max(1, full // 4))):
                    full = slots if self._admit(waiting, active, packed, slots) else len(active)
                    continue
                logits = packed.extend(
                    0,
                    [row.tokens[-1:] for row in active],
                    [row.length for row in active],
                    [row.prefix for row in active],
                )
                for row, token in zip(active, choose(logits, active), strict=True):
                    row.length += 1
                    row.take(token)
                close_up(active, kept)
        self._asked += sum(len(row.prompt) for row in rows)
        self._computed += packed.computed - sum(len(row.tokens) - 1 for row in rows)

    def _admit(self, waiting: deque[Row], active: list[Row], packed: SharedPrefixModel, slots: int) -> bool:
        """Compute what new rows have of their own, a few at a time, and their first tokens; False if room ran out."""
        free, room = min(slots - len(active), len(waiting)), True
        while free and room:
            some, room = self._next(waiting, free, active, packed)
            free -= len(some)
            if some:
                self._read(some, active, packed)
        return room

    def _next(
        self, waiting: deque[Row], most: int, active: list[Row], packed: SharedPrefixModel
    ) -> tuple[list[Row], bool]:
        """At most so many rows that may pass together, with room made for them; and whether there was enough."""
        some: list[Row] = []
        while len(some) < most:
            longest = max(len(one.own) for one in [*some, waiting[0]])
            if some and (len(some) + 1) * longest > packed.kept.prefill:
                break
            if not self._settle(waiting[0], len(active) + len(some), packed, must=not (active or some)):
                return some, False
            some.append(waiting.popleft())
        return some, True

    def _settle(self, row: Row, slot: int, packed: SharedPrefixModel, must: bool) -> bool:
        """Make room for a row, and its prefix if that is not there; whether there was some."""
        family, own = row.family, _most_own(row)
        if family.prefix is None:
            # Only the very same prefix is used again, so a batch comes out the same whatever came before it.
            if self._last is None or self._last.tokens != family.tokens:
                self._last = None  # Before the next is made: there need not be room for both.
                if not (must or packed.kept.has_room(len(family.tokens) + own)):
                    return False
                family.prefix = packed.prefix(family.tokens)
                self._last = family
            family.prefix = self._last.prefix
        return packed.kept.take(slot, own, must)

    def _read(self, some: list[Row], active: list[Row], packed: SharedPrefixModel) -> None:
        """Compute the prompts of `some`, which are in the slots behind `active`, and add them to it."""
        # A long prompt passes alone, piece after piece: attention's scores may be held whole.
        piece = packed.kept.chunk if len(some) == 1 else packed.kept.prefill
        first = len(active)
        for start in range(0, max(len(row.own) for row in some), piece):
            tokens = [row.own[start : start + piece] for row in some]
            logits = packed.extend(first, tokens, [row.length for row in some], [row.prefix for row in some])
            for row, more in zip(some, tokens, strict=True):
                row.length += len(more)
        for row, token in zip(some, choose(logits, some), strict=True):
            row.take(token)
        active += some
        close_up(active, packed.kept)

    @torch.inference_mode()
    def _run_padded(self, rows: list["Row"]) -> None:
        """Complete `rows` with `generate`, padded on the left."""
        width = max(len(row.prompt) for row in rows)
        samplers = [_Sampler(rows)] if any(row.request.temperature > 0 for row in rows) else []
        self._generate(
            [[self._pad] * (width - len(row.prompt)) + row.prompt for row in rows],
            [[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows],
            max(row.request.most_new_tokens for row in rows),
            stopping_criteria=StoppingCriteriaList([_Collector(rows)]),
            logits_processor=LogitsProcessorList(samplers),
        )

    def _generate(self, ids: list[list[int]], mask: list[list[int]], max_new_tokens: int, **more):
        return_dict = more.pop("return_dict_in_generate", False)
        settings = self._settings(max_new_tokens=max_new_tokens, return_dict_in_generate=return_dict)
        device = self._base.get_input_embeddings().weight.device
        with self._without_defaults():
            return self.model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=settings,
                **{key: value for key, value in more.items() if value is not None},
            )

    def _settings(self, **more) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False, use_cache=True, eos_token_id=self._ends or None, pad_token_id=self._pad, **more
        )

    @contextmanager
    def _without_defaults(self) -> Iterator[None]:
        """Put the checkpoint's generation settings aside: `generate` fills in from them whatever ours leave open."""
        owners = [self.model] if self.model is self._base else [self.model, self._base]
        kept = [owner.generation_config for owner in owners]
        try:
            for owner in owners:
                owner.generation_config = GenerationConfig()
            yield
        finally:
            for owner, settings in zip(owners, kept, strict=True):
                owner.generation_config = settings


def _state(model) -> Any:
    """What tells that a model computes something else than before: steps of a training, adapters put on, off or merged.

    A change through `.data` alone, which torch doesn't count, is not seen.
    """
    steps = sum(0 if one.is_inference() else one._version for one in model.parameters())
    adapters = {
        (module.disable_adapters, tuple(module.active_adapters), tuple(module.merged_adapters))
        for module in model.modules() if hasattr(module, "merged_adapters")
    }  # fmt: skip
    return steps, adapters


def _most_own(row: Row) -> int:
    """Tokens that a row may have behind its prefix."""
    return len(row.prompt) - row.shared + row.request.most_new_tokens


class _Collector(StoppingCriteria):
    """Hands each row the token of every step and tells `generate` which rows are over."""

    def __init__(self, rows: list[Row]):
        self._rows = rows

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.Tensor:
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            if row.finish is None:
                row.take(token)
        return torch.tensor([row.finish is not None for row in self._rows], device=input_ids.device)


class _Sampler(LogitsProcessor):
    """Leaves one token to each sampled row; greedy rows stay as they are."""

    def __init__(self, rows: list[Row]):
        self._rows = rows

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        sampled = [i for i, row in enumerate(self._rows) if row.random is not None]
        rows = torch.tensor(sampled, device=scores.device)
        settled = scores.index_fill(0, rows, -torch.inf)
        settled[rows, draw(scores[rows], [self._rows[i] for i in sampled])] = 0.0
        return settled
