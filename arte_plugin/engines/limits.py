"""How much goes through a model at a time, by its attention: for the engine, and for who plans its memory."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What an attention takes at a time, on a GPU."""

    #: Rows in flight: more make a step longer, but hardly a token cheaper.
    rows: int
    #: Prompt tokens of several rows that pass together, and of one row.
    prefill: int
    chunk: int


#: The plain attention holds its scores whole; variable-length attention has none.
PLAIN = Limits(rows=256, prefill=2048, chunk=512)
VARLEN = Limits(rows=1024, prefill=8192, chunk=8192)

#: Bytes for keys and values where nothing is said: a number, or a share of what is free on the GPU. The rest is for
#: what passes through the model, and for logits, of which sampling makes copies.
MEMORY, SHARE = 4 * 2**30, 0.6

#: Of those bytes, how many the logits of the rows in flight may take besides, in float32 and four times.
FOR_LOGITS, LOGIT = 1 / 8, 4 * 4

#: The widest heads that torch's flash attention takes.
WIDEST = 256


def varlen_rows(budget: float, asked: int, vocabulary: int) -> int:
    """Rows in flight, of so many, with variable-length attention and `budget` bytes of keys and values."""
    return max(1, min(VARLEN.rows, asked, int(FOR_LOGITS * budget / (LOGIT * vocabulary))))


def why_plain(config: Any, dtype: str) -> str:
    """Why a model with this config of its text, in this precision, stays with the plain attention on any GPU.

    In words; empty if it need not.
    """
    if dtype not in ("float16", "bfloat16"):
        return f"it computes in {dtype}"
    if getattr(config, "attn_logit_softcapping", None):
        return "its attention scores are capped"
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return f"its heads are {width} wide" if width > WIDEST else ""


#: A common beginning of fewer tokens is computed with every row: it costs less than another part of attention.
WORTH_SHARING = 16
