"""Peak memory of a device where a model writes, from the config alone."""

from collections.abc import Mapping
from typing import Any

from arte_plugin.engines import limits
from arte_plugin.engines.limits import MEMORY
from arte_plugin.plan.machine import packing, setup_of
from arte_plugin.plan.memory import Need
from arte_plugin.plan.shapes import SIZES, Shape, on_meta


def writing_need(
    stage: str, step: str, shape: Shape, cfg: Mapping[str, Any], dtype: str, rows: int | None,
    cache: float | None, lengths: tuple[int, int, int], spread: int = 1, varlen: bool | None = None,
) -> Need:  # fmt: skip
    """A model that writes, in one process: `rows` requests at a time, keys and values within `cache` bytes.

    None is for what is not said: all requests, and `MEMORY`. With variable-length attention or the plain one, by
    `varlen`; None is for what a GPU of the Ampere generation or newer has.

    `lengths` are a prompt's, a reply's as expected and as long as it may be, in tokens; `spread` is the number of GPUs
    that its layers lie on.
    """
    packed = packing(cfg)
    prompt, usual, longest = lengths
    if limits.why_plain(shape.text, dtype) if varlen is None else not varlen:
        held = [_plain(shape, cfg, dtype, rows, cache or MEMORY, prompt, new) for new in (usual, longest)]
    else:
        # The pool is made for replies as long as they may be.
        held = [_varlen(shape, dtype, rows, cache or MEMORY, prompt + longest, prompt)] * 2
    weights = shape.weights(dtype, packed) / spread
    return Need(
        stage,
        step,
        shape.name,
        weights,
        0.0,
        held[0],
        held[1],
        (prompt + usual, prompt + longest),
        fills=cache is None,
    )


def _plain(
    shape: Shape, cfg: Mapping[str, Any], dtype: str, rows: int | None, cache: float, prompt: int, new: int
) -> float:
    """Keys and values of what is in flight, and what passing the prompts takes."""
    token = shape.token_bytes * SIZES[dtype] / 2
    most = limits.PLAIN.rows
    rows = max(1, min(rows or most, most, int(cache / (token * (prompt + new)))))
    # Some prompt tokens pass at a time, with the scores of their attention: in float32, and copied twice.
    passing = min(rows * prompt, limits.PLAIN.prefill)
    scores = 3 * 4 * shape.text.num_attention_heads * passing * min(prompt, limits.PLAIN.chunk)
    logits = limits.LOGIT * rows * shape.text.vocab_size
    reading = _reading(shape, dtype, setup_of(cfg, 1).attention, passing)
    return rows * token * (prompt + new) + max(reading + scores, logits)


def _varlen(shape: Shape, dtype: str, rows: int | None, cache: float, tokens: int, prompt: int) -> float:
    """The pool of keys and values for rows of so many `tokens`, and what passing the prompts takes."""
    from arte_plugin.plan.stand_ins import SPLIT

    slots = limits.varlen_rows(cache, rows or limits.VARLEN.rows, shape.text.vocab_size)
    token = shape.token_bytes * SIZES[dtype] / 2
    # Of all requests together, it has room for all prefixes: there is no telling how many.
    pool = max(cache if rows is None else min(cache, rows * token * tokens), token * tokens)
    logits = limits.LOGIT * slots * shape.text.vocab_size
    return pool + max(_reading(shape, dtype, SPLIT, min(slots * prompt, limits.VARLEN.prefill)), logits)


def _reading(shape: Shape, dtype: str, attention: str, tokens: int) -> float:
    """What prompts take as they pass through: nothing is kept from layer to layer, so two of them tell."""
    from arte_plugin.plan import trace

    return trace.reading(on_meta(shape.with_layers(2), dtype, attention), 1, tokens)
