"""Memory of a model that writes as planned, against what the engine takes."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, LlamaConfig

from arte_plugin.engines import varlen_attention
from arte_plugin.engines.base import TokenRequest
from arte_plugin.engines.in_flight import Row, families
from arte_plugin.engines.plain_attention import PlainAttention
from arte_plugin.engines.transformers import MOST_ROWS, MOST_VARLEN_ROWS, TransformersEngine
from arte_plugin.engines.varlen_attention import VarlenAttention
from arte_plugin.plan import memory, stand_ins, trace, writing_memory
from tests.plans import shape
from tests.taught import TAUGHT


@pytest.mark.parametrize(
    ("count", "budget", "vocabulary"),
    # All rows fit; the budget is less than what they would take; the logits let fewer be in flight; it isn't one row's.
    [(8, 1e9, 300), (60, 1e5, 32), (60, 4e5, 300), (8, 2e3, 300)],
)
def test_plan_counts_what_the_engine_takes_with_variable_length_attention(
    count, budget, vocabulary, tmp_path, monkeypatch
):
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(TAUGHT)
    engine = TransformersEngine(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16), tokenizer, budget)
    engine._varlen = True
    rows = [
        Row(TokenRequest("", str(i), 9, 0.0, 0, tokens=tuple([i + 1] * 20)), tokenizer, [], i, None)
        for i in range(count)
    ]
    slots, held = engine._attention([row for family in families(rows) for row in family.rows])
    assert (held.prefill, held.chunk) == (VarlenAttention.prefill,) * 2
    monkeypatch.setattr(writing_memory, "_reading", lambda *given: 0.0)
    planned = writing_memory.writing_need("", "", shape(config, tmp_path), {}, "bfloat16", count, budget, (20, 4, 9))
    # The pool grows for a row that would be alone.
    logits, taken = 4 * 4 * slots * vocabulary, max(held._pool.size, 29) * engine._token_bytes
    assert planned.usual == planned.longest
    if 1 < slots < count and taken < 0.9 * budget:
        # With a prefix of their own, rows that wait have a place in the pool as well.
        assert taken <= planned.usual - logits <= budget
    else:
        assert planned.usual - logits == pytest.approx(taken, abs=engine._token_bytes)
    # Of all requests of a stage nobody knows how many prefixes there are: the budget is full.
    planned = writing_memory.writing_need("", "", shape(config, tmp_path), {}, "bfloat16", None, 1e9, (20, 4, 9))
    assert planned.usual == 1e9 + 4 * 4 * MOST_VARLEN_ROWS * vocabulary


def test_plan_passes_as_many_prompt_tokens_as_the_attention_of_the_engine(tmp_path, monkeypatch):
    """And as many rows; the plain attention stays in float32, with capped scores and with heads that are too wide."""
    passed: list[int] = []
    monkeypatch.setattr(writing_memory, "_reading", lambda *given: float(passed.append(given[-1]) or 0))

    def usual(dtype="bfloat16", rows=None, **keys) -> float:
        few = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 64}
        made = shape(Gemma2Config(vocab_size=512, intermediate_size=64, **{"head_dim": 16, **few, **keys}), tmp_path)
        passed.clear()
        return writing_memory.writing_need("", "", made, {}, dtype, rows, 8 * memory.GIB, (600, 50, 50)).usual

    scores = 3 * 4 * 4 * PlainAttention.prefill * PlainAttention.chunk
    own = {"float32": 650 * MOST_ROWS["cuda"] * 4 * 4 * 2 * 16 * 2}
    own["bfloat16"] = own["float32"] / 2
    free = {"attn_logit_softcapping": None}
    for dtype, keys in (("float32", free), ("bfloat16", {}), ("bfloat16", {**free, "head_dim": 264})):
        width = keys.get("head_dim", 16) / 16
        assert usual(dtype, **keys) == own[dtype] * width + max(scores, 4 * 4 * MOST_ROWS["cuda"] * 512)
        assert set(passed) == {PlainAttention.prefill}
    assert usual(**free) == 8 * memory.GIB + 4 * 4 * MOST_VARLEN_ROWS * 512
    assert set(passed) == {VarlenAttention.prefill} == {VarlenAttention.chunk}
    assert usual(**free, rows=2) == 2 * 650 * own["bfloat16"] / 650 / MOST_ROWS["cuda"] + 4 * 4 * 2 * 512
    assert set(passed) == {2 * 600}


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_what_variable_length_attention_holds_of_a_prompt(kv_heads, monkeypatch):
    """By the operations of the engine's own layer behind a prefix, on tensors without data."""
    heads, width, tokens = 4, 64, 512
    query, key, value = (
        torch.empty(1, one, tokens, width, dtype=torch.bfloat16, device=stand_ins.META)
        for one in (heads, kv_heads, kv_heads)
    )

    def flash(query, key, value, given, scaling, causal=False, window=None):
        return torch.empty_like(query), query.new_empty(query.shape[1], query.shape[0], dtype=torch.float32)

    monkeypatch.setattr(varlen_attention, "_flash", flash)
    engine = VarlenAttention(tokens)
    monkeypatch.setattr(engine, "_store", lambda layer, key, value: (key, value))
    group = heads // kv_heads
    calls = SimpleNamespace(tokens=tokens * group, blind=None)
    monkeypatch.setattr(engine, "_sequences", lambda *given: (calls, calls))
    engine._step = SimpleNamespace(longest=tokens, highest=2 * tokens)
    held = {}
    for name, attend in (
        ("engine", lambda: engine.attend(0, query, key, value, 1.0, None, None)),
        ("plan", lambda: stand_ins._split(None, query, key, value)),
    ):
        with torch.no_grad(), trace.Counter([query, key, value]) as counter:
            attend()
        held[name] = counter.peaks["top"]
    assert held["plan"] == pytest.approx(held["engine"], rel=0.1)
    assert held["engine"] > 2 * query.numel() * 4
