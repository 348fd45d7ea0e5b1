"""What students and teachers are loaded with alike: the revision, a tokenizer, how many requests at a time, memory."""

from typing import Any

from arte_plugin.config.arte import ArteArgs
from arte_plugin.models import placement

#: Replies whose likelihood a GPU tells at a time.
LIKELIHOODS_AT_A_TIME = 1000


def told_revision(revision: str | None) -> dict[str, str]:
    """What a loader is told of a revision: nothing where there is none to be told of."""
    return {"revision": revision} if revision else {}


def load_tokenizer(path: str, trust_remote_code: bool, revision: str | None = None) -> Any:
    """A student's tokenizer, with something to pad with."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, **told_revision(revision))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def batches(asked: int | None, usual: int) -> dict[str, Any]:
    """How requests are put into batches: as it is asked for, else by `usual` on a CPU, and all at once on a GPU."""
    on_gpu = placement.device() != "cpu"
    return {"batch_size": asked or (LIKELIHOODS_AT_A_TIME if on_gpu else usual), "whole": on_gpu and asked is None}


def keys_and_values(args: ArteArgs) -> float | None:
    """Bytes for the keys and values of what transformers has in flight; None where the YAML leaves that to it."""
    gib = args.engine.cache_gib
    return None if gib is None else gib * 2**30
