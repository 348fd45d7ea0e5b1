"""Runs a loaded transformers model in this process: shared prefixes, stop strings, sampling by the seed alone."""

import copy
import gc
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Literal

import torch
from transformers import (
    ContinuousBatchingConfig,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer

from arte_plugin.engines.base import Completion, Keep, Likelihood, Reply, Request
from arte_plugin.engines.likelihood import log_likelihoods
from arte_plugin.errors import DataError
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: Below this many shared tokens a plain padded batch is as fast.
WORTH_SHARING = 16

#: Of the memory that is free, for the paged cache; sampled requests need the rest.
PAGED_MEMORY = 0.5

#: Continuous batching looks on the Hub for a flash kernel and switches to it unasked. Newer transformers (Axolotl
#: 0.21) can be told not to; the older one leaves alone what is called `paged|…`, a prefix that the newer one drops.
_STAY = {"auto_switch_to_flash": False} if hasattr(ContinuousBatchingConfig, "auto_switch_to_flash") else {}

#: FlashAttention's decoding kernel reads pages of a multiple of this many tokens only.
KERNEL_PAGE = 256


class TransformersEngine:
    """Completes batches with a model that is loaded and placed already; a PEFT or quantised model will do.

    Requests that share a prefix have it computed once. On CUDA the greedy ones go through transformers' continuous
    batching in pages of `page_size` tokens, where the last bits can depend on the timing; everything else is a
    padded batch, with `generate` doing the decoding. `paged` overrules the choice between the two.
    """

    def __init__(self, model, tokenizer, page_size: int = 32, paged: bool | None = None):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._base = model.get_base_model() if hasattr(model, "get_base_model") else model
        named = getattr(self._base.generation_config, "eos_token_id", None)
        ends = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
        self._ends = sorted({token for token in ends if token is not None})
        self._pad = next(token for token in (tokenizer.pad_token_id, *self._ends, 0) if token is not None)
        config = self._base.config.get_text_config(decoder=True)
        self._positions: int | None = getattr(config, "max_position_embeddings", None)
        # A sliding window, a recurrent state or ALiBi would count the padding between the prefix and the rest.
        self._can_share = "position_ids" in inspect.signature(self._base.forward).parameters and all(
            type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers
        )
        self._prefix: tuple[list[int], DynamicCache] | None = None
        self._page_size = page_size
        self._sent = 0
        self._paged = self._base.device.type == "cuda" if paged is None else paged
        if self._paged and getattr(self._base, "is_quantized", False):
            self._no_paging("the model is quantised")

    def generate(self, batch: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        """Complete `batch`, in its order; `keep` hears of all at the end.

        Raises `DataError` for a request that doesn't fit into the model's context.
        """
        rows = [_Row(request, self.tokenizer, self._ends) for request in batch]
        for row in rows:
            self._check_length(row)
        self.model.eval()  # A trainer may have had it in between; this also turns gradient checkpointing off.
        if self._paged:
            self._run_paged([row for row in rows if row.request.temperature == 0])
        self._run_padded([row for row in rows if row.finish is None])
        done = [row.completion() for row in rows]
        if keep is not None:
            for place, completion in enumerate(done):
                keep(place, completion)
        return done

    def likelihoods(self, batch: Sequence[Reply]) -> list[Likelihood]:
        """How likely the model finds each of `batch`, in its order."""
        self.model.eval()
        return log_likelihoods(self.model, self.tokenizer, batch, share=self._can_share)

    def report(self) -> str:
        """Nothing: the progress line has told it."""
        return ""

    def close(self) -> None:
        """Give back the memory: the engine can't be used any more, and the caller lets go of the model itself."""
        self._prefix = None
        if self._sent and self._base is not None:
            self._base.destroy_cached_continuous_batching_manager()
        self.model = self._base = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _check_length(self, row: "_Row") -> None:
        wanted = len(row.prompt) + row.request.max_new_tokens
        if self._positions is not None and wanted > self._positions:
            raise DataError(
                f"A prompt of {len(row.prompt)} tokens and a reply of up to {row.request.max_new_tokens} don't fit "
                f"into the model's {self._positions} positions. Lower max_new_tokens, use fewer shots or shorter "
                f"questions, or take a model with a longer context. The prompt begins: {row.request.prompt[:200]!r}"
            )

    @torch.inference_mode()
    def _run_padded(self, rows: list["_Row"]) -> None:
        """Complete `rows` with `generate`: the shared prefix once, then each row's padding, then its own rest."""
        if not rows:
            return
        prompts = [row.prompt for row in rows]
        shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))
        shared = min(shared, min(map(len, prompts)) - 1)
        if len(rows) == 1 or shared < WORTH_SHARING or not self._can_share:
            shared = 0
        width = max(map(len, prompts))
        ids, mask = [], []
        for prompt in prompts:
            gap = width - len(prompt)
            ids.append(prompt[:shared] + [self._pad] * gap + prompt[shared:])
            mask.append([1] * shared + [0] * gap + [1] * (len(prompt) - shared))
        samplers = [_Sampler(rows)] if any(row.request.temperature > 0 for row in rows) else []
        # `generate` takes the position ids from the mask and leaves out the ids that the cache holds already.
        self._generate(
            ids,
            mask,
            max(row.request.max_new_tokens for row in rows),
            past_key_values=self._prefix_cache(prompts[0][:shared], len(rows)) if shared else None,
            stopping_criteria=StoppingCriteriaList([_Collector(rows)]),
            logits_processor=LogitsProcessorList(samplers),
        )

    def _prefix_cache(self, prefix: list[int], copies: int) -> DynamicCache:
        """The keys and values of `prefix` for a batch of `copies`; the next batch of the group finds them again.

        Only the very same prefix is reused, so that a batch is computed in the same way whatever came before it.
        """
        if self._prefix is None or self._prefix[0] != prefix:
            self._prefix = None  # Before the new one is made: there need not be room for both.
            made = self._generate([prefix], [[1] * len(prefix)], 1, return_dict_in_generate=True)
            self._prefix = prefix, made.past_key_values
        cache = copy.deepcopy(self._prefix[1])
        cache.batch_repeat_interleave(copies)
        return cache

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
                    max_new_tokens=row.request.max_new_tokens,
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
        LOG.warning("Paged generation is off, padded batches are used instead: %s.", reason)
        self._paged = False


class _Row:
    """One request on its way: its prompt's tokens, what was generated so far, and whether it is over."""

    def __init__(self, request: Request, tokenizer, ends: Sequence[int]):
        self.request = request
        self.prompt: list[int] = tokenizer(request.prompt, add_special_tokens=False)["input_ids"]
        self.tokens: list[int] = []
        self.finish: Literal["stop", "length"] | None = None
        self._tokenizer = tokenizer
        self._ends = ends
        # A token is a byte at least; the few more are for a first token that is decoded differently in that place.
        self._tail = max((len(stop.encode()) for stop in request.stop), default=0) + 4

    def take(self, token: int) -> None:
        """Add a generated token, which may be the last one."""
        self.tokens.append(token)
        if token in self._ends or self._cut(self._decode(self.tokens[-self._tail :])) is not None:
            self.finish = "stop"
        elif len(self.tokens) >= self.request.max_new_tokens:
            self.finish = "length"

    def completion(self) -> Completion:
        """What the row came to, once it is over."""
        text = self._decode(self.tokens)
        end = self._cut(text)
        stopped = end is not None or self.finish == "stop"
        return Completion(text[:end], "stop" if stopped else "length", len(self.prompt), len(self.tokens))

    def _cut(self, text: str) -> int | None:
        """Where the stop string that is complete first ends."""
        return min((text.index(stop) + len(stop) for stop in self.request.stop if stop in text), default=None)

    def _decode(self, tokens: list[int]) -> str:
        written = [token for token in tokens if token not in self._ends]
        return self._tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)


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
    """Leaves one token to each sampled row, drawn with that row's own random numbers; greedy rows stay as they are.

    One number decides a token (inverse transform): noise for the whole vocabulary costs milliseconds a row and step.
    """

    def __init__(self, rows: list[_Row]):
        self._sampled = [i for i, row in enumerate(rows) if row.request.temperature > 0]
        self._temperatures = [[rows[i].request.temperature] for i in self._sampled]
        # On the CPU, so that a seed means the same on every device.
        self._draws = [torch.Generator().manual_seed(rows[i].request.seed) for i in self._sampled]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        drawn = torch.tensor([[torch.rand((), generator=draw).item()] for draw in self._draws], device=scores.device)
        temperatures = torch.tensor(self._temperatures, device=scores.device)
        rows = torch.tensor(self._sampled, device=scores.device)
        below = (scores[rows] / temperatures).softmax(-1).cumsum(-1)
        total = below[:, -1:]
        # Strictly below the total, or rounding could pick a last token that has no probability at all.
        point = torch.minimum(drawn * total, torch.nextafter(total, torch.zeros_like(total)))
        chosen = torch.searchsorted(below, point, right=True)[:, 0]
        settled = scores.index_fill(0, rows, -torch.inf)
        settled[rows, chosen] = 0.0
        return settled
