"""Teacher and student as things that can be asked: identity, prompts, request cache, an engine loaded when needed."""

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arte_plugin import ranks, versions
from arte_plugin.config import axolotl_keys
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.preference_set import RespondentArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.config.teacher import TeacherArgs
from arte_plugin.engines.base import Completion, Describes, Engine, Request, plan_batches, plan_queue
from arte_plugin.language.rendering import Renderer
from arte_plugin.models import gpus_seen, placement, serving
from arte_plugin.models.identity import fingerprint_files, fingerprint_model
from arte_plugin.models.kept import KeptEngine
from arte_plugin.models.request_cache import Buffer, RequestCache, request_key
from arte_plugin.ranks import LOGGER
from arte_plugin.training import aligned_weights, sharding

if TYPE_CHECKING:
    from arte_plugin.show.progress import ProgressLine

LOG = logging.getLogger(LOGGER)

#: Keys of the teacher's config that have a place of their own in its identity.
_QUANTISATION = ("load_in_4bit", "load_in_8bit", "bnb_config_kwargs", "gptq")
_TOLD = ("torch_dtype", "attn_implementation")

#: Completions that are stored together where a GPU would wait for it.
STORED_TOGETHER = 32

#: Replies whose likelihood a GPU tells at a time.
LIKELIHOODS_AT_A_TIME = 1000


@dataclass
class Usage:
    """What asking cost: requests in all, how many of them a model answered now, tokens and seconds of those."""

    requests: int = 0
    asked: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0


@dataclass
class Model:
    """A model that can be asked. Nothing is loaded until a request is not in the cache."""

    name: str
    identity: Mapping[str, Any]
    renderer: Renderer
    load: Callable[[], Engine]
    cache: RequestCache
    batch_size: int
    rank_timeout: float
    #: By servers: they make batches of their own, and are asked by one process only, whose requests fill them.
    served: bool = False
    usage: Usage = field(default_factory=Usage)
    #: What it really was, once it has been loaded and closed again.
    loaded: dict[str, Any] = field(default_factory=dict)
    #: On a GPU: the engine is given all of a rank's share at a time, so that rows that end are replaced to the last,
    #: and what it answers is stored as it comes. The last bits there depend on what is computed together anyway.
    whole: bool = False
    #: Where its engine goes when it is closed, for the next stage; without, its memory is given back at once.
    kept: KeptEngine | None = None
    _engine: Engine | None = None

    def ask(self, requests: Sequence[Request], what: str) -> list[Completion]:
        """Complete `requests`, in their order; `what` names the work on the progress line.

        Ranks share the batches and meet through the cache. Raises `StageError` when another rank stops answering.
        """
        [completions] = self.ask_in_parts(lambda: [requests], len(requests), what)
        return completions

    def ask_in_parts(
        self, parts: Callable[[], Iterable[Sequence[Request]]], total: int, what: str
    ) -> Iterator[list[Completion]]:
        """`ask` for more requests than should be in memory at once: the completions of each part, one after the other.

        `parts` gives the same parts, `total` requests in all, each time that it is called: ranks that share the work
        answer their share of all parts before they wait for one another. Nothing is asked before the first part is
        taken, and every rank must take them all. Batches are made within a part.
        """
        from arte_plugin.show.progress import ProgressLine

        line = ProgressLine(what, total)
        # Where one rank asks for all, it has nobody to wait for.
        waits = ranks.world_size() > 1 and not (self.served and ranks.is_first())
        try:
            for keys, done in self._answer_share(parts(), line):
                if not waits:
                    yield self._collect(keys, done, what)
        finally:
            line.close()
        if self._engine is not None and (report := self._engine.report()):
            LOG.info("%s: %s", what, report)
        if waits:
            for requests in parts():
                yield self._collect([request_key(self.identity, request) for request in requests], {}, what)

    def _answer_share(
        self, parts: Iterable[Sequence[Request]], line: "ProgressLine"
    ) -> Iterator[tuple[list[str], dict[str, Completion]]]:
        """Answer what this rank has to of each part; the keys of its requests, and what was in the cache before."""
        plan = plan_queue if self.served else plan_batches
        sharers = 1 if self.served else ranks.world_size()
        # Of batches, over all parts: ranks have as much to do, however small the parts are.
        number = -1
        for requests in parts:
            started = time.monotonic()
            keys = [request_key(self.identity, request) for request in requests]
            by_key = dict(zip(keys, requests, strict=True))
            key_of = {request: key for key, request in by_key.items()}
            done = self.cache.get(list(by_key))
            self.usage.requests += len(requests)
            line.pass_over(len(requests) - len(by_key) + len(done))
            at_a_time = max(1, math.ceil(len(by_key) / sharers)) if self.whole else self.batch_size
            for batch in plan(list(by_key.values()), at_a_time):
                number += 1
                if number % sharers != ranks.rank():
                    continue
                missing = [(key, request) for request in batch if (key := key_of[request]) not in done]
                if not missing:
                    continue
                line.begin()
                engine = self.engine()
                asked, wanted = [key for key, _ in missing], [request for _, request in missing]
                store = Buffer(self.cache, STORED_TOGETHER if self.whole else 1)

                def keep(place: int, one: Completion, asked: list[str] = asked, store: Buffer = store) -> None:
                    if self.served or self.whole:
                        # Its batches are long, and none of it is to be lost.
                        store.add(asked[place], one)
                    line.update(1)

                try:
                    answers = engine.generate(wanted, keep)
                finally:
                    store.flush()
                if not (self.served or self.whole):
                    # Whole, or the batch that a run goes on with would be another one.
                    self.cache.put(zip(asked, answers, strict=True))
                self._count(answers)
            if len(done) < len(by_key):
                self.usage.seconds += time.monotonic() - started
            yield keys, done

    def _collect(self, keys: Sequence[str], done: Mapping[str, Completion], what: str) -> list[Completion]:
        """The completions of `keys`, of which `done` are at hand; waits for those that another rank makes."""
        found = {**done, **self.cache.get([key for key in dict.fromkeys(keys) if key not in done])}
        missing = list({key for key in keys if key not in found})
        if missing:
            started = time.monotonic()
            waiting_for = f"the other ranks' share of: {what}"
            ranks.wait_until(lambda: self.cache.count(missing), len(missing), self.rank_timeout, waiting_for)
            self.usage.seconds += time.monotonic() - started
            found |= self.cache.get(missing)
        return [found[key] for key in keys]

    @property
    def key(self) -> str:
        """The same for models that one engine can run, within a run."""
        return json.dumps(self.identity, sort_keys=True, default=str)

    def engine(self) -> Engine:
        """Who runs the model; it is loaded if need be."""
        if self._engine is None:
            self._engine = (self.kept and self.kept.take(self.key, self.name)) or self.load()
        return self._engine

    def close(self) -> None:
        """Let go of the model: its memory is given back, at the latest before another is loaded (`kept`)."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        if isinstance(engine, Describes):
            self.loaded = engine.describe()
        if self.kept is not None:
            self.kept.put(self.key, engine)
        else:
            engine.close()

    def _count(self, completions: Sequence[Completion]) -> None:
        self.usage.asked += len(completions)
        self.usage.prompt_tokens += sum(c.prompt_tokens for c in completions)
        self.usage.new_tokens += sum(c.new_tokens for c in completions)


def student_model(
    settings: StudentArgs,
    args: ArteArgs,
    cfg: Mapping[str, Any],
    cache: RequestCache,
    respondent: RespondentArgs | None = None,
) -> Model:
    """A student, or another respondent to be loaded like it, that can be probed.

    Raises `ConfigError` where the model is neither a directory nor on the Hub.
    """
    base_model, revision = (respondent or settings).base_model, (respondent or settings).revision
    dtype = student_dtype(settings)
    attention = settings.attn_implementation or cfg.get("attn_implementation")

    def load() -> Engine:
        import torch
        from transformers import AutoModelForCausalLM

        from arte_plugin.engines.transformers import TransformersEngine
        from arte_plugin.models.attention_kernels import pin_flash_kernel

        LOG.info("loading %s", base_model)
        pin_flash_kernel()
        model = AutoModelForCausalLM.from_pretrained(
            base_model,
            **_at(revision),
            dtype=getattr(torch, dtype),
            trust_remote_code=settings.trust_remote_code,
            **({"attn_implementation": attention} if attention else {}),
        )
        return TransformersEngine(
            model.to(placement.device()), renderer.tokenizer, ends=renderer.end_ids, **_engine_settings(args)
        )

    fingerprint = fingerprint_model(base_model, revision)
    renderer = asking_renderer(
        _load_tokenizer(base_model, settings.trust_remote_code, revision),
        settings if respondent is None else respondent,
        args,
    )
    name = settings.name if respondent is None else base_model
    ends = _more_ends(renderer)
    if served := serving.served_by(args, "student", base_model):
        # A student that is its own respondent is one server, with one log.
        server = settings.name if base_model == settings.base_model else base_model
        return Model(
            name, {"model": fingerprint, **serving.server_identity(args, served), **ends}, renderer,
            serving.server_loader(args, served, cfg, server, base_model, renderer, revision=revision), cache,
            serving.requests_at_a_time(args, served), args.engine.rank_timeout, served=True,
        )  # fmt: skip
    engine = versions.engine("transformers")
    # The checkpoint's own code may compute something else than the library's.
    code = {"trust_remote_code": True} if settings.trust_remote_code else {}
    identity = {"model": fingerprint, "dtype": dtype, "attention": attention, "engine": engine, **ends, **code}
    return Model(
        name, identity, renderer, load, cache, **_batches(args.probe.batch_size, 160),
        rank_timeout=args.engine.rank_timeout,
    )  # fmt: skip


def teacher_model(cfg: Any, args: ArteArgs, cache: RequestCache, aligned: Path | None = None) -> Model:
    """The teacher, loaded by Axolotl's own loader as it is trained: quantisation, precision, attention, adapter.

    With `aligned`, the weights that a DPO run left in that folder: its adapter on the base, or the full model.
    """
    cfg = generation_config(cfg, aligned)
    adapter = cfg.get("lora_model_dir")
    base_model, revision = cfg["base_model"], cfg.get("revision_of_model")

    def load() -> Engine:
        from axolotl.loaders import ModelLoader

        from arte_plugin.engines.transformers import TransformersEngine

        sharding.refuse_zero3()
        LOG.info("loading the teacher %s%s", base_model, f" with {adapter}" if adapter else "")
        cfg["device_map"] = placement.device_map(cfg)
        model, _ = ModelLoader(cfg, tokenizer, inference=True).load()
        if cfg.get("adapter") and not adapter:
            # Quantisation in Axolotl comes with the adapter; a fresh one must not have a say.
            model = model.unload()
        if adapter:
            aligned_weights.check_loaded(model, adapter)
        placement.check_placed(model, f"the teacher {base_model}", cfg)
        placement.one_precision(model, cfg.get("torch_dtype"))
        model.requires_grad_(False)
        return TransformersEngine(model, tokenizer, ends=renderer.end_ids, **_engine_settings(args))

    from axolotl.loaders import load_tokenizer

    # What a run has trained counts by its content, also in the Hub's cache: that run asked it as a folder.
    fingerprint = fingerprint_files(aligned) if aligned and not adapter else fingerprint_model(base_model, revision)
    tokenizer = load_tokenizer(cfg)
    renderer = asking_renderer(tokenizer, args.teacher, args)
    adapter_fingerprint = fingerprint_files(Path(adapter)) if adapter else None
    name = f"{base_model}{' (aligned)' if aligned else ''}"
    weights = {"model": fingerprint, "adapter": adapter_fingerprint, "tokenizer": tokenizer_hash(tokenizer)}
    weights |= _more_ends(renderer)
    if served := serving.served_by(args, "teacher", base_model):
        load_server = serving.server_loader(
            args, served, cfg, "aligned teacher" if aligned else "teacher", base_model, renderer,
            Path(adapter) if adapter else None, adapter_fingerprint, revision,
        )  # fmt: skip
        return Model(
            name, {**weights, **serving.server_identity(args, served)}, renderer, load_server, cache,
            serving.requests_at_a_time(args, served), args.engine.rank_timeout, served=True,
        )  # fmt: skip
    decisive = axolotl_keys.of_generation(cfg)
    identity = {
        **weights,
        "quantisation": {key: decisive[key] for key in _QUANTISATION if key in decisive},
        "dtype": str(cfg.get("torch_dtype")),
        "attention": cfg.get("attn_implementation"),
        "engine": versions.engine("transformers"),
    }
    rest = {key: value for key, value in decisive.items() if key not in (*_QUANTISATION, *_TOLD)}
    if rest:
        identity["settings"] = json.loads(json.dumps(rest, default=str))
    return Model(
        name, identity, renderer, load, cache, **_batches(args.elicit.batch_size, 16),
        rank_timeout=args.engine.rank_timeout,
    )  # fmt: skip


def asking_renderer(tokenizer: Any, settings: StudentArgs | TeacherArgs | RespondentArgs, args: ArteArgs) -> Renderer:
    """What renders for a model, as its part of the YAML says; its tokenizer may be that of a tuned one."""
    thinks = isinstance(settings, TeacherArgs) and settings.reasoning is True
    return Renderer(
        tokenizer, settings.prompt_style, settings.chat_template_kwargs, args.date,
        thought_tokens=args.teacher.reasoning_tokens if thinks else 0,
    )  # fmt: skip


def _more_ends(renderer: Renderer) -> dict[str, Any]:
    """The end of turn of a model whose tokenizer has another EOS: a reply ends there as well."""
    more = [token for token in renderer.end_ids if token != renderer.tokenizer.eos_token_id]
    return {"end_of_turn": more} if more else {}


def generation_config(cfg: Any, aligned: Path | None) -> Any:
    """A copy of the teacher's config to generate with: no training, no sharding, aligned weights if asked for."""
    cfg = copy.deepcopy(cfg)
    # Plugins' and trainers' business; a reference model would be loaded for `rl`.
    for key in ("rl", "fsdp", "fsdp_config", "deepspeed", "gradient_checkpointing", "sample_packing"):
        cfg[key] = None
    if aligned:
        if cfg.get("adapter"):
            cfg["lora_model_dir"] = str(aligned)
        else:
            cfg["base_model"] = cfg["base_model_config"] = str(aligned)
            cfg["revision_of_model"] = None
    placement.as_computed(cfg)
    return cfg


def stay_on_cpu(cfg: Any) -> None:
    """With several ranks Axolotl sends each to an accelerator of its own number, there or not."""
    import torch

    if ranks.world_size() > 1 and not torch.accelerator.is_available():
        cfg["device_map"] = {"": "cpu"}


def student_dtype(student: StudentArgs) -> str:
    """The precision that a student is probed and evaluated in."""
    if student.dtype != "auto":
        return student.dtype
    return "bfloat16" if gpus_seen.seen().bf16 else "float32"


def _at(revision: str | None) -> dict[str, str]:
    """What a loader is told of a revision: nothing where there is none to be told of."""
    return {"revision": revision} if revision else {}


def _load_tokenizer(path: str, trust_remote_code: bool, revision: str | None = None):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, **_at(revision))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_hash(tokenizer) -> str:
    """Axolotl may change the tokenizer (chat template, added tokens), so the files do not tell all."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{content}\0{tokenizer.chat_template}\0{tokenizer.special_tokens_map}".encode()).hexdigest()


def _batches(asked: int | None, usual: int) -> dict[str, Any]:
    """How requests are put into batches: as it is asked for, else by `usual` on a CPU, and all at once on a GPU."""
    on_gpu = placement.device() != "cpu"
    return {"batch_size": asked or (LIKELIHOODS_AT_A_TIME if on_gpu else usual), "whole": on_gpu and asked is None}


def keys_and_values(args: ArteArgs) -> float | None:
    """Bytes for the keys and values of what transformers has in flight; None where the YAML leaves that to it."""
    gib = args.engine.cache_gib
    return None if gib is None else gib * 2**30


def _engine_settings(args: ArteArgs) -> dict[str, Any]:
    return {"memory": keys_and_values(args)}
