"""Runs a loaded transformers model in this process: shared prefixes, stop strings, sampling by the seed alone."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, Literal

import torch
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from arte_plugin.endings import ending_strings, reply_end
from arte_plugin.engines.base import Completion, Continuation, Keep, Likelihood, Reply, Request, TokenRequest, Weighed
from arte_plugin.engines.likelihood import log_likelihoods
from arte_plugin.engines.shared_prefix import CHUNK, Prefix, SharedPrefixModel, can_share, token_bytes
from arte_plugin.engines.weighing import weigh
from arte_plugin.errors import DataError
from arte_plugin.loaded import describe_model
from arte_plugin.memory import release
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: A common beginning of fewer tokens is computed with every row: it costs less than another part of attention.
WORTH_SHARING = 16

#: Rows in flight at a time: more make a step longer, but hardly a token cheaper.
MOST_ROWS = {"cpu": 32, "cuda": 256}

#: Prompt tokens of several rows that go through the model at a time.
PREFILL = 4 * CHUNK

#: The most that padding may add to the tokens of a padded batch.
WASTE = 0.1

#: Of the memory that is free, for the paged cache; sampled requests need the rest.
PAGED_MEMORY = 0.5

#: Continuous batching looks on the Hub for a flash kernel and switches to it unasked. Newer transformers (Axolotl
#: 0.21) can be told not to; the older one leaves alone what is called `paged|…`, a prefix that the newer one drops.
_STAY = {"auto_switch_to_flash": False} if hasattr(ContinuousBatchingConfig, "auto_switch_to_flash") else {}

#: FlashAttention's decoding kernel reads pages of a multiple of this many tokens only.
KERNEL_PAGE = 256


class TransformersEngine:
    """Completes batches with a model that is loaded and placed already; a PEFT or quantised model will do.

    Requests that share a prefix have it computed and stored once (`shared_prefix`); a row that ends makes room for the
    next one of the batch. `memory` bytes bound the keys and values of what is in flight. On CUDA the greedy requests go
    through transformers' continuous batching in pages of `page_size` tokens, where the last bits can depend on the
    timing; `paged` overrules the choice between the two. Models whose attention can't be split are left to `generate`.
    A reply is over at a token of `ends`, as well as at the checkpoint's and the tokenizer's own end of sequence.
    """

    def __init__(
        self, model, tokenizer, page_size: int = 32, paged: bool | None = None, memory: float = 4 * 2**30,
        ends: Sequence[int] = (),
    ):  # fmt: skip
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
        self._memory = memory
        self._token_bytes = token_bytes(self._base)
        self._most_rows = MOST_ROWS.get(self._base.device.type, max(MOST_ROWS.values()))
        #: Why something that was to be done is not.
        self._reasons: dict[str, str] = {}
        #: Whether attention can be split; unknown until there is something to try it on.
        self._shares: bool | None = None
        self._last: _Family | None = None
        self._asked = self._computed = 0
        self._page_size = page_size
        self._sent = 0
        self._paged = self._base.device.type == "cuda" if paged is None else paged
        if self._paged and getattr(self._base, "is_quantized", False):
            self._no_paging("the model is quantised")

    def generate(self, batch: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        """Complete `batch`, in its order; `keep` hears of each completion as soon as it is there.

        Raises `DataError` for a request that doesn't fit into the model's context.
        """
        rows = [_Row(request, self.tokenizer, self._ends, place, keep) for place, request in enumerate(batch)]
        for row in rows:
            self._check_length(row)
        self.model.eval()  # A trainer may have had it in between; this also turns gradient checkpointing off.
        if self._paged:
            self._run_paged([row for row in rows if row.request.temperature == 0])
        if left := [row for row in rows if row.finish is None]:
            if self._can_share(left[0].prompt):
                self._run_shared(left)
            else:
                for some in by_length(left, self._rows_at_a_time(left, 0)):
                    self._run_padded(some)
        return [row.completion() for row in rows]

    def likelihoods(self, batch: Sequence[Reply]) -> list[Likelihood]:
        """How likely the model finds each of `batch`, in its order."""
        self.model.eval()
        tokens = self.tokenizer(batch[0].prompt, add_special_tokens=False)["input_ids"]
        return log_likelihoods(self.model, self.tokenizer, batch, self._can_share(tokens))

    def weigh(self, batch: Sequence[Continuation]) -> list[Weighed] | None:
        """How likely the model finds each of `batch`, in its order; None for a model whose attention can't be split."""
        self.model.eval()
        if batch and not self._can_share([*batch[0].context, *batch[0].tokens]):
            return None
        return weigh(self.model, batch)

    def report(self) -> str:
        """How much of the prompts had to be computed, since the last report; empty where hardly anything is shared."""
        asked, computed = self._asked, self._computed
        self._asked = self._computed = 0
        if computed >= 0.95 * asked:
            return ""
        return f"{computed:,} prompt tokens computed for {asked:,} asked ({100 * computed / asked:.0f} %)"

    def describe(self) -> dict[str, Any]:
        """What the model really is, and how it was run: by continuous batching (`paged`), with shared prefixes."""
        how = {"paged": self._paged and self._sent > 0, "shared": bool(self._shares)}
        return {**self._described, **how, **({"why_not": self._reasons} if self._reasons else {})}

    def close(self) -> None:
        """Give back the memory: the engine can't be used any more, and the caller lets go of the model itself."""
        self._last = None
        if self._sent and self._base is not None:
            self._base.destroy_cached_continuous_batching_manager()
        self.model = self._base = None
        release()

    def _check_length(self, row: "_Row") -> None:
        wanted = len(row.prompt) + row.request.most_new_tokens
        if self._positions is not None and wanted > self._positions:
            raise DataError(
                f"A prompt of {len(row.prompt)} tokens and a reply of up to {row.request.most_new_tokens} don't fit "
                f"into the model's {self._positions} positions. Lower max_new_tokens, use fewer shots or shorter "
                f"questions, or take a model with a longer context. The prompt begins: {row.request.prompt[:200]!r}"
            )

    def _can_share(self, tokens: Sequence[int]) -> bool:
        if self._shares is None:
            reason = can_share(self.model, tokens)
            self._shares = not reason
            if reason:
                self._reasons["shared"] = reason
                LOG.warning("Shared prefixes are off, padded batches are used instead: %s.", reason)
        return self._shares

    def _rows_at_a_time(self, rows: Sequence["_Row"], prefix: int) -> int:
        """How many rows the memory allows, beside three prefixes: those in use, and the next while it is made."""
        longest = max(len(row.prompt) - row.shared + row.request.most_new_tokens for row in rows)
        room = self._memory / self._token_bytes - 3 * prefix
        return max(1, min(self._most_rows, len(rows), int(room / longest)))

    @torch.inference_mode()
    def _run_shared(self, rows: list["_Row"]) -> None:
        """Complete `rows`: as long as some wait, those that end are replaced."""
        waiting = deque(row for family in self._families(rows) for row in family.rows)
        slots = self._rows_at_a_time(rows, max(row.shared for row in rows))
        packed = SharedPrefixModel(self.model, slots)
        active: list[_Row] = []
        with packed.attention():
            while waiting or active:
                free = slots - len(active)
                # A few at a time: one row alone is as slow as several together.
                if waiting and (not active or free >= min(len(waiting), max(1, slots // 4))):
                    self._admit([waiting.popleft() for _ in range(min(free, len(waiting)))], active, packed)
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
                _close_up(active, packed)
        self._asked += sum(len(row.prompt) for row in rows)
        self._computed += packed.computed - sum(len(row.tokens) - 1 for row in rows)

    def _families(self, rows: list["_Row"]) -> list["_Family"]:
        """Rows that share a prefix, and their prefix; requests without siblings may have one in common as well."""
        groups: dict[str, list[_Row]] = {}
        for row in rows:
            groups.setdefault(row.request.group, []).append(row)
        singles = [siblings[0] for siblings in groups.values() if len(siblings) == 1]
        families = [_Family(siblings) for siblings in groups.values() if len(siblings) > 1]
        return [*families, *([_Family(singles)] if singles else [])]

    def _admit(self, new: list["_Row"], active: list["_Row"], packed: SharedPrefixModel) -> None:
        """Compute what `new` rows have of their own, a few at a time, and their first tokens."""
        for family in dict.fromkeys(row.family for row in new):
            if family.prefix is None:
                # Only the very same prefix is used again, so a batch comes out the same whatever came before it.
                if self._last is None or self._last.tokens != family.tokens:
                    self._last = None  # Before the next is made: there need not be room for both.
                    family.prefix = packed.prefix(family.tokens)
                    self._last = family
                family.prefix = self._last.prefix
        while new:
            some = [new.pop(0)]
            while new and (len(some) + 1) * max(len(one.own) for one in [*some, new[0]]) <= PREFILL:
                some.append(new.pop(0))
            # A long prompt passes alone, piece after piece: attention's scores are held whole.
            piece = CHUNK if len(some) == 1 else PREFILL
            first = len(active)
            for start in range(0, max(len(row.own) for row in some), piece):
                tokens = [row.own[start : start + piece] for row in some]
                logits = packed.extend(first, tokens, [row.length for row in some], [row.prefix for row in some])
                for row, more in zip(some, tokens, strict=True):
                    row.length += len(more)
            for row, token in zip(some, choose(logits, some), strict=True):
                row.take(token)
            active += some
            _close_up(active, packed)

    @torch.inference_mode()
    def _run_padded(self, rows: list["_Row"]) -> None:
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

    def _run_paged(self, rows: list["_Row"]) -> None:
        """Complete `rows` by continuous batching; where that fails, leave them for `_run_padded`, for good."""
        if not rows:
            return
        attention = self._base.config._attn_implementation
        try:
            if not _STAY:
                self._base.set_attn_implementation(f"paged|{attention}")
            self._feed(rows)
        except (RuntimeError, ValueError, TypeError, AttributeError, ImportError, MemoryError) as error:
            self._no_paging(f"{type(error).__name__}: {error}")
            self._base.destroy_cached_continuous_batching_manager()
        finally:
            self._base.set_attn_implementation(attention)
            for row in rows:
                if row.finish is None:
                    row.tokens.clear()

    def _feed(self, rows: list["_Row"]) -> None:
        """Send `rows` to the manager, which stays on the model between calls, and take the tokens as they come.

        A prefix is shared once its pages are full, so the siblings of a group wait for the first one's first token.
        """
        paging = ContinuousBatchingConfig(
            block_size=self._page_size,
            max_memory_percent=PAGED_MEMORY,
            max_blocks_per_request=None if self._page_size % KERNEL_PAGE == 0 else 0,
            # Cancelling a request whose next step is under way already would fail.
            use_async_batching=False,
            **_STAY,
        )
        families: dict[str, list[_Row]] = {}
        for row in rows:
            families.setdefault(row.request.group, []).append(row)
        running: dict[str, _Row] = {}
        with self._base.continuous_batching_context_manager(
            generation_config=self._settings(), continuous_batching_config=paging, persistent_manager=True
        ) as manager:

            def send(row: _Row) -> None:
                # An id is never used twice: a late token of a cancelled request must find no one.
                self._sent += 1
                running[f"arte-{self._sent}"] = row
                manager.add_request(
                    row.prompt,
                    request_id=f"arte-{self._sent}",
                    max_new_tokens=row.request.most_new_tokens,
                    streaming=True,
                    eos_token_id=self._ends,
                )

            for siblings in families.values():
                send(siblings[0])
            while running:
                output = manager.get_result(timeout=1)
                if output is None and not manager.is_running():
                    raise RuntimeError(f"continuous batching stopped ({manager.fatal_error})")
                if output is None or output.request_id not in running:
                    continue
                if output.error:
                    raise RuntimeError(output.error)
                row = running[output.request_id]
                for token in output.generated_tokens[len(row.tokens) :]:
                    if row.finish is None:
                        row.take(token)
                if row.finish is not None:
                    del running[output.request_id]
                    if not output.is_finished():
                        manager.cancel_request(output.request_id)
                for sibling in families.pop(row.request.group, [])[1:]:
                    send(sibling)

    def _no_paging(self, reason: str) -> None:
        self._reasons["paged"] = reason
        LOG.warning("Paged generation is off, padded batches are used instead: %s.", reason)
        self._paged = False


class _Row:
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
        self.family: _Family = _ALONE
        #: How many of its other tokens, generated ones among them, are computed.
        self.length = 0
        #: Its own random numbers. On the CPU, so that a seed means the same on every device.
        self.random = torch.Generator().manual_seed(request.seed) if request.temperature > 0 else None
        self._tokenizer = tokenizer
        self._ends = ends
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


class _Collector(StoppingCriteria):
    """Hands each row the token of every step and tells `generate` which rows are over."""

    def __init__(self, rows: list[_Row]):
        self._rows = rows

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.Tensor:
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            if row.finish is None:
                row.take(token)
        return torch.tensor([row.finish is not None for row in self._rows], device=input_ids.device)


class _Sampler(LogitsProcessor):
    """Leaves one token to each sampled row; greedy rows stay as they are."""

    def __init__(self, rows: list[_Row]):
        self._rows = rows

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        sampled = [i for i, row in enumerate(self._rows) if row.random is not None]
        rows = torch.tensor(sampled, device=scores.device)
        settled = scores.index_fill(0, rows, -torch.inf)
        settled[rows, draw(scores[rows], [self._rows[i] for i in sampled])] = 0.0
        return settled


class _Family:
    """Rows whose prompts begin alike, and that beginning."""

    def __init__(self, rows: list[_Row]):
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
_ALONE, _NOTHING = _Family([]), Prefix()


def _close_up(active: list[_Row], packed: SharedPrefixModel) -> None:
    """Take out the rows that are over, each replaced by the last one, so that those in flight stay side by side."""
    for slot in reversed(range(len(active))):
        if active[slot].finish is None:
            continue
        active[slot].family = _ALONE  # A prefix without a row is given up.
        last = active.pop()
        if slot < len(active):
            packed.move(len(active), slot, last.length)
            active[slot] = last


def choose(logits: torch.Tensor, rows: Sequence[_Row]) -> list[int]:
    """The next token of each row, from (rows, vocabulary) logits: the likeliest, or drawn where it is sampled."""
    tokens = logits.argmax(-1)
    if sampled := [i for i, row in enumerate(rows) if row.random is not None]:
        places = torch.tensor(sampled, device=logits.device)
        tokens[places] = draw(logits[places].float(), [rows[i] for i in sampled])
    return tokens.tolist()


def draw(logits: torch.Tensor, rows: Sequence[_Row]) -> torch.Tensor:
    """A token for each of `rows`, from (rows, vocabulary) float32 logits, by the row's own random numbers.

    One number decides a token (inverse transform): noise for the whole vocabulary costs milliseconds a row and step.
    """
    drawn = torch.tensor([[torch.rand((), generator=row.random).item()] for row in rows], device=logits.device)
    temperatures = torch.tensor([[row.request.temperature] for row in rows], device=logits.device)
    below = (logits / temperatures).softmax(-1).cumsum(-1)
    total = below[:, -1:]
    # Strictly below the total, or rounding could pick a last token that has no probability at all.
    point = torch.minimum(drawn * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(below, point, right=True)[:, 0]


def by_length(rows: Iterable[_Row], most: int) -> Iterator[list[_Row]]:
    """Batches of at most `most` rows, by length, in which padding adds at most `WASTE` to the tokens."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        tokens = sum(len(one.prompt) for one in batch) + len(row.prompt)
        if batch and (len(batch) == most or (len(batch) + 1) * len(row.prompt) > (1 + WASTE) * tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
