"""torch's flash attention for sequences of any length, written out for the CPU, which has none.

By FlashAttention-2's rules (its `mha_varlen_fwd` and `BlockInfo`): keys begin where `cum_seq_k` says and are as many as
`seqused_k` says; causal masks and windows are aligned at the last query and the last key; a query without keys has an
output of zeros and a log-sum-exp of plus infinity.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flash_on_the_cpu() -> Iterator[list[dict]]:
    """Within this, `aten::_flash_attention_forward` runs on the CPU; the calls are told of."""
    calls: list[dict] = []

    def forward(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, debug, **more):
        calls.append({"queries": len(query), "sequences": len(cum_seq_q) - 1, "causal": is_causal, "max_q": max_q})
        output, total = attend(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, is_causal, **more)
        assert dropout_p == 0 and not debug
        empty = query.new_empty(0)
        return output, total, empty, empty, empty

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward, "CPU")
    try:
        yield calls
    finally:
        library._destroy()


def attend(
    query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, is_causal, *, scale=None, window_size_left=None,
    window_size_right=None, seqused_k=None, alibi_slopes=None, block_table=None, num_splits=None,
):  # fmt: skip
    """Output (queries, heads, width) and log-sum-exp (heads, queries)."""
    assert alibi_slopes is block_table is num_splits is None
    assert query.dtype == key.dtype == value.dtype
    assert all(one.stride(-1) == 1 for one in (query, key, value))
    for told in (cum_seq_q, cum_seq_k, seqused_k):
        assert told.dtype == torch.int32 and told.is_contiguous() and told.device == query.device
    batch, (queries, heads, width) = len(cum_seq_q) - 1, query.shape
    assert len(cum_seq_k) == batch + 1 and len(seqused_k) == batch and width <= 256 and heads % key.shape[1] == 0
    begins = cum_seq_q.tolist()
    assert begins[0] == 0 and begins[-1] == queries
    # The kernel then takes every query for a sequence, whatever `cum_seq_q` says.
    assert max_q > 1 or heads == key.shape[1] or batch == queries
    left = -1 if window_size_left is None else window_size_left
    right = 0 if is_causal else -1 if window_size_right is None else window_size_right
    output = torch.zeros(queries, heads, value.shape[-1], dtype=torch.float32)
    total = torch.full((heads, queries), torch.inf)
    for one in range(batch):
        begin, end, start, used = begins[one], begins[one + 1], int(cum_seq_k[one]), int(seqused_k[one])
        assert 0 <= end - begin <= max_q and 0 <= used <= max_k and 0 <= start <= start + used <= len(key)
        keys, values = (
            part[start : start + used].float().repeat_interleave(heads // key.shape[1], dim=1) for part in (key, value)
        )
        scores = torch.einsum("qhw,khw->hqk", query[begin:end].float(), keys) * scale
        aligned = torch.arange(end - begin)[:, None] + used - (end - begin)
        places = torch.arange(used)[None, :]
        hidden = torch.zeros(end - begin, used, dtype=torch.bool)
        if left >= 0:
            hidden |= places < aligned - left
        if right >= 0:
            hidden |= places > aligned + right
        scores = scores.masked_fill(hidden, -torch.inf)
        sees = ~hidden.all(-1)
        found = scores.softmax(-1)[:, sees] @ values.transpose(0, 1)
        output[begin:end][sees] = found.transpose(0, 1)
        total[:, begin:end][:, sees] = scores.logsumexp(-1)[:, sees]
    return output.to(query.dtype), total
