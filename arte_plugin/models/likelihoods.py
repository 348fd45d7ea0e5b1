"""Asking a model how likely it finds given replies: like `Model.ask`, with the cache, the ranks and the batches."""

import time
from collections.abc import Sequence
from itertools import groupby

from arte_plugin import ranks
from arte_plugin.engines.base import Likelihood, Reply, Weighs
from arte_plugin.errors import ConfigError
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import LIKELIHOODS, reply_key
from arte_plugin.show.progress import progress_line


def ask_likelihoods(model: Model, replies: Sequence[Reply], what: str) -> list[Likelihood]:
    """How likely `model` finds `replies`, in their order; `what` names the work on the progress line.

    Raises `ConfigError` for an engine that can't tell, and `StageError` when another rank stops answering.
    """
    keys = [reply_key(model.identity, reply) for reply in replies]
    by_key = dict(zip(keys, replies, strict=True))
    done = model.cache.get_of(LIKELIHOODS, list(by_key))
    model.usage.requests += len(replies)
    started = time.monotonic()
    with progress_line(what, total=len(by_key), done=len(done)) as line:
        for number, batch in enumerate(_batches(by_key, model.batch_size)):
            # As with completions, batches depend on the requests alone and not on what is there already.
            missing = [key for key in batch if key not in done]
            if number % ranks.world_size() != ranks.rank() or not missing:
                continue
            engine = model.engine()
            if not isinstance(engine, Weighs):
                raise ConfigError(f"{model.name} is run by an engine that can't tell how likely a reply is.")
            found = engine.likelihoods([by_key[key] for key in missing])
            model.cache.put_into(LIKELIHOODS, zip(missing, found, strict=True))
            model.usage.asked += len(found)
            model.usage.prompt_tokens += sum(one.all_tokens for one in found)
            line.update(len(found))
    if len(done) < len(by_key):
        if ranks.world_size() > 1:
            waiting_for = f"the other ranks' share of: {what}"
            ranks.wait_until(
                lambda: model.cache.count(list(by_key), LIKELIHOODS), len(by_key), model.rank_timeout, waiting_for
            )
        model.usage.seconds += time.monotonic() - started
        done = model.cache.get_of(LIKELIHOODS, list(by_key))
    return [done[key] for key in keys]


def _batches(by_key: dict[str, Reply], batch_size: int) -> list[list[str]]:
    """Keys in batches: a group's siblings together, texts of a length side by side."""

    def place(key: str) -> tuple[str, int, str]:
        return by_key[key].group, len(by_key[key].prompt), key

    groups = [list(keys) for _, keys in groupby(sorted(by_key, key=place), key=lambda key: by_key[key].group)]
    return [keys[start : start + batch_size] for keys in groups for start in range(0, len(keys), batch_size)]
