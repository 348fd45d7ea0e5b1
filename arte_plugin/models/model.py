"""A model that can be asked: its identity, prompts, request cache, and an engine that is loaded when it is needed."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arte_plugin import ranks
from arte_plugin.engines.base import Completion, Describes, Engine, Request, plan_batches, plan_queue
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.kept import KeptEngine
from arte_plugin.models.request_cache import Buffer, RequestCache, request_key
from arte_plugin.ranks import LOGGER

if TYPE_CHECKING:
    from arte_plugin.show.progress import ProgressLine

LOG = logging.getLogger(LOGGER)

#: Completions that are stored together where a GPU would wait for it.
STORED_TOGETHER = 32


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
    #: Asked by the first rank alone, while the others do something else.
    alone: bool = False
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
        waits = ranks.world_size() > 1 and not ((self.served or self.alone) and ranks.is_first())
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
        sharers = 1 if self.served or self.alone else ranks.world_size()
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
