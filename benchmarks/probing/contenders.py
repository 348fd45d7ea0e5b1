"""The ways of answering probes that are compared. Each is made for one work, warmed up, and then run on it once."""

import copy
import json
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from arte_plugin.config.engines import ServerEngineArgs
from arte_plugin.engines.base import Request, plan_batches, plan_queue
from arte_plugin.engines.dialects import Writer
from arte_plugin.engines.server import ServerEngine
from arte_plugin.engines.transformers import TransformersEngine
from arte_plugin.language.rendering import Renderer
from benchmarks.probing.replies import Output, read_reply
from benchmarks.probing.work import Work

#: Of all memory, what continuous batching's cache may take on a CPU. Left alone it takes nine tenths, and the machine
#: swaps, or ends the process.
CPU_PAGED_MEMORY = 0.2


class Contender:
    """One way of answering."""

    name: ClassVar[str]

    def __init__(self, model, renderer: Renderer, work: Work, batch_size: int, rows: int):
        self.model, self.tokenizer, self.work = model, renderer.tokenizer, work
        self.batch_size = batch_size
        #: How many prompts it is going to be asked.
        self.rows = rows
        ends = model.generation_config.eos_token_id if model is not None else None
        self.ends: list[int] = ends if isinstance(ends, list) else [ends] if ends is not None else []
        if self.tokenizer.eos_token_id is not None and work.length == "real":
            self.ends = sorted({*self.ends, self.tokenizer.eos_token_id})

    def run(self, prompts: Sequence[str]) -> list[Output]:
        """Answer `prompts`, in their order."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what it holds, the model apart."""

    def read(self, tokens: Sequence[int], pad: int | None = None) -> Output:
        """The reply in generated tokens. With `pad`, those behind it are no part of what was generated for it."""
        fixed = self.work.length == "fixed"
        return read_reply(tokens, self._decode, stop=self.work.stop, ends=self.ends, fixed=fixed, pad=pad)

    def _decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _settings(self) -> dict[str, Any]:
        """What `generate` is told about the replies."""
        pad = self.tokenizer.pad_token_id
        settings: dict[str, Any] = {"max_new_tokens": self.work.max_new_tokens, "do_sample": False, "pad_token_id": pad}
        if self.ends:
            settings["eos_token_id"] = self.ends
        if self.work.stop:
            settings |= {"stop_strings": list(self.work.stop), "tokenizer": self.tokenizer}
        return settings


class Naive(Contender):
    """A paper's script: `generate`, one prompt after the other."""

    name = "naive"

    def run(self, prompts: Sequence[str]) -> list[Output]:
        """Answer `prompts`, in their order."""
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt: str) -> Output:
        given = self.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            out = self.model.generate(**given, **self._settings())
        return self.read(out[0, given["input_ids"].shape[1] :].tolist())


class Batched(Contender):
    """`generate` on batches of prompts with padding on the left, in the order in which they come."""

    name = "batched"

    def run(self, prompts: Sequence[str]) -> list[Output]:
        """Answer `prompts`, in their order."""
        starts = range(0, len(prompts), self.batch_size)
        return [output for start in starts for output in self._batch(prompts[start : start + self.batch_size])]

    def _batch(self, prompts: Sequence[str]) -> list[Output]:
        given = self.tokenizer(
            list(prompts), add_special_tokens=False, return_tensors="pt", padding=True, padding_side="left"
        ).to(self.model.device)
        with torch.inference_mode():
            out = self.model.generate(**given, **self._settings())
        new = out[:, given["input_ids"].shape[1] :].tolist()
        return [self.read(tokens, self.tokenizer.pad_token_id) for tokens in new]


class Paged(Contender):
    """transformers' own continuous batching, with its defaults but for the memory on a CPU.

    It knows no stop strings: replies run on to the end token or the longest length and are cut here.
    """

    name = "generate_batch"

    def run(self, prompts: Sequence[str]) -> list[Output]:
        """Answer `prompts`, in their order. Raises `RuntimeError` with its words where it fails."""
        given = [self.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
        on_cuda = self.model.device.type == "cuda"
        # It makes its buffers for the requests of the first call, which is the warm-up.
        config = ContinuousBatchingConfig(
            max_memory_percent=None if on_cuda else CPU_PAGED_MEMORY, max_requests_per_batch=self.rows
        )
        settings = GenerationConfig(
            max_new_tokens=self.work.max_new_tokens,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.ends or None,
        )
        done = self.model.generate_batch(
            given, settings, continuous_batching_config=config, progress_bar=False, persistent_manager=True
        )
        failed = [one.error for one in done.values() if one.error]
        if failed or len(done) < len(prompts):
            raise RuntimeError(failed[0] if failed else f"{len(done)} of {len(prompts)} requests were answered")
        return [self.read(one.generated_tokens) for one in done.values()]

    def close(self) -> None:
        """Give back the cache and its memory."""
        self.model.destroy_cached_continuous_batching_manager()


class Engine(Contender):
    """This project's engine, given whole groups of siblings, as the probe stage does."""

    name = "engine"

    def __init__(self, model, renderer: Renderer, work: Work, batch_size: int, rows: int):
        super().__init__(model, renderer, work, batch_size, rows)
        tokenizer = copy.deepcopy(self.tokenizer)
        if work.length == "fixed":
            # Nothing ends a reply then but its length; the checkpoint's own end tokens are put aside by the worker.
            tokenizer.eos_token = None
        self._engine = TransformersEngine(model, tokenizer)

    def run(self, prompts: Sequence[str]) -> list[Output]:
        """Answer `prompts`, in their order."""
        requests = _requests(prompts, self.work)
        done = {}
        for batch in plan_batches(requests, len(requests)):
            done |= zip(batch, self._engine.generate(batch), strict=True)
        return [Output(done[request].text, done[request].new_tokens) for request in requests]

    def close(self) -> None:
        """Give back its memory."""
        self._engine.close()


class Server(Contender):
    """A server that runs already, asked by this project's own client."""

    name = "server"

    def __init__(self, renderer: Renderer, work: Work, url: str, api: str, model: str):
        super().__init__(None, renderer, work, 1, 1)
        settings = ServerEngineArgs.model_validate({"kind": "server", "api": api, "student": {"base_urls": [url]}})
        writer = (_EndlessWriter if work.length == "fixed" else Writer)(api, renderer, model)
        key = os.environ.get(settings.api_key_env or "OPENAI_API_KEY")
        self._engine = ServerEngine(writer, settings, [url], api_key=key)

    def run(self, prompts: Sequence[str]) -> list[Output]:
        """Answer `prompts`, in their order."""
        requests = _requests(prompts, self.work)
        [batch] = plan_queue(requests, len(requests))
        done = dict(zip(batch, self._engine.generate(batch), strict=True))
        return [Output(done[request].text, done[request].new_tokens) for request in requests]


class _EndlessWriter(Writer):
    """Asks for replies that run on to their longest length, where the server can be told to."""

    def body(self, request: Request) -> dict[str, Any]:
        body = super().body(request)
        body.pop("stop_token_ids", None)
        if self.api == "transformers":
            # None would stand for the checkpoint's own; no token has this number.
            settings = json.loads(body["generation_config"]) | {"eos_token_id": -1}
            return {**body, "generation_config": json.dumps(settings)}
        return {**body, "ignore_eos": True} if self.dialect.takes_tokens else body


def _requests(prompts: Sequence[str], work: Work) -> list[Request]:
    return [
        Request(prompt, group="draft", max_new_tokens=work.max_new_tokens, temperature=0.0, seed=0, stop=work.stop)
        for prompt in prompts
    ]


#: Those in this process, in the order in which they are shown.
IN_PROCESS: dict[str, type[Contender]] = {one.name: one for one in (Naive, Batched, Paged, Engine)}
