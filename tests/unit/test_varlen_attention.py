"""Attention by torch's variable-length flash, held against the plain way on a CPU by a reference of its kernel."""

import itertools
import logging

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
)

from arte_plugin.engines import varlen_attention  # noqa: E402
from arte_plugin.engines.attention import Prefix, Step  # noqa: E402
from arte_plugin.engines.base import Reply, Request  # noqa: E402
from arte_plugin.engines.in_flight import Row, families  # noqa: E402
from arte_plugin.engines.plain_attention import PlainAttention  # noqa: E402
from arte_plugin.engines.shared_prefix import NAME, SharedPrefixModel, compare, token_bytes  # noqa: E402
from arte_plugin.engines.transformers import TransformersEngine  # noqa: E402
from arte_plugin.engines.varlen_attention import Pool, VarlenAttention, why_not  # noqa: E402
from arte_plugin.models.memory import free_bytes  # noqa: E402
from tests.flash_reference import flash_on_the_cpu  # noqa: E402
from tests.played_rows import LENGTHS, mistral, off, played, some  # noqa: E402


def load(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@pytest.fixture
def flash():
    with flash_on_the_cpu() as calls:
        yield calls


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_are_those_of_the_plain_way_for_any_number_of_families(flash, count, kv_heads):
    model = mistral(None, kv_heads)
    varlen = played(model, VarlenAttention(1500), count)
    assert flash, "the kernel was not asked"
    assert off(varlen, played(model, None, count)) < 1e-5


@pytest.mark.parametrize("window", [1, 7, 24, 60])
def test_sliding_windows_are_sound_across_prefix_and_own_tokens(flash, window):
    model = mistral(window)
    varlen = played(model, VarlenAttention(1500), 3)
    assert off(varlen, played(model, None, 3)) < 1e-5
    assert off(varlen, played(mistral(None), None, 3)) > 1e-2, "the window must matter"


@pytest.mark.parametrize("count", range(1, 8))
def test_half_precision_is_off_by_its_rounding_only(flash, count):
    model = mistral(None, dtype=torch.bfloat16, spread=0.1)
    exact = played(mistral(None, dtype=torch.bfloat16, spread=0.1).float(), None, count)
    varlen, plain = (played(model, attention, count) for attention in (VarlenAttention(1500), None))
    assert 1e-4 < off(varlen, exact) < min(0.03, 1.5 * off(plain, exact))
    sure = 0
    for seen, whole in zip(varlen, exact, strict=True):
        first, second = whole.topk(2).values.unbind(-1)
        clear = first - second > 0.01 * whole.norm(dim=-1)
        sure += int(clear.sum())
        assert torch.equal(seen.argmax(-1)[clear], whole.argmax(-1)[clear])
    assert sure > 10


def test_a_step_has_two_calls_a_layer_whatever_the_number_of_families(flash):
    model = mistral(None)
    counts = {}
    for count in (1, 7):
        flash.clear()
        played(model, VarlenAttention(1500), count)
        decoded = [call for call in flash[-6 * 2 * 3 :] if call["max_q"] <= 2 * len(LENGTHS)]
        counts[count] = len(decoded)
        assert len(flash) == 3 * (count + 2 * 7), "one for a prefix's own computing, then two a step"
    assert counts[1] == counts[7]
    own, shared = flash[-2:]
    assert own["sequences"] == 8 and shared["sequences"] == len({(5 * i) % 7 for i in (0, 8, 2, 3, 5, 7)} | {6})


class Counted(TorchDispatchMode):
    """Counts the operations that a GPU would be given: views are none."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [one for arg in args for one in (arg if isinstance(arg, list) else [arg])]
        view = func.is_view or func.name() == "aten::_unsafe_view"
        if not view and any(isinstance(one, torch.Tensor) and one.is_meta for one in tensors):
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def layer_on_meta(count: int, counts: list[int], window: int | None = None) -> list[str]:
    """The operations of one layer, by tensors without data: torch's own rules for the kernel say the shapes, and to ask
    for a value, which on a GPU would wait for it, is an error."""
    attention = VarlenAttention(8000)
    prefixes = [attention.prefix(20 + i) for i in range(count)]
    for i, prefix in enumerate(prefixes):
        prefix.length = 20 + i
    for slot in range(len(counts)):
        assert attention.take(slot, 200)
    rows = [*prefixes, Prefix()]
    chosen = [rows[i % len(rows)] for i in range(len(counts))]
    order = attention.order(chosen)
    attention.begin(
        Step(torch.tensor(counts)[list(order)], torch.full((len(counts),), 90), [chosen[i] for i in order], list(order))
    )
    query = torch.empty(1, 8, sum(counts), 64, dtype=torch.bfloat16, device="meta")
    new = torch.empty(1, 2, sum(counts), 64, dtype=torch.bfloat16, device="meta")
    # Not in inference mode, which hides what `reshape` and `to` come to.
    with torch.no_grad():
        for _ in range(2):
            # Buffers, and what the calls of a step are told, are made the first time.
            with Counted() as counted:
                output = attention.attend(0, query, new, new, 0.125, None, window)
    assert output.shape == (1, sum(counts), 8, 64) and output.dtype == torch.bfloat16
    return counted.names


@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize("counts", [[1] * 24, [1, 30, 7] * 8])
def test_a_layer_never_waits_for_the_device_and_has_as_many_operations_with_seven_families(counts, window):
    one, seven = layer_on_meta(1, counts, window), layer_on_meta(7, counts, window)
    assert one == seven and len(one) <= 16, one
    assert sum("flash" in name for name in one) == 2


@pytest.mark.parametrize("counts", [[1] * 6, [3, 1, 9, 2, 1, 4]])
def test_the_plain_way_never_waits_either_and_moves_rows_at_once(counts):
    attention = PlainAttention(6, torch.device("meta"))
    prefixes = [attention.prefix(20), attention.prefix(31)]
    shape, new = (2, 1, 64), torch.empty(1, 2, sum(counts), 64, device="meta")
    for prefix, length in zip(prefixes, (20, 31), strict=True):
        prefix.length = length
        prefix.layers[0] = tuple(torch.empty(shape[0], length, shape[2], device="meta") for _ in range(2))
    attention.begin(Step(torch.tensor(counts), torch.full((6,), 50), [*prefixes, Prefix()] * 2, list(range(6))))
    query = torch.empty(1, 8, sum(counts), 64, device="meta")
    output = attention.attend(0, query, new, new, 0.125, None, 24)
    assert output.shape == (1, sum(counts), 8, 64)
    launches = {}
    for rows in (1, 3):
        with Counted() as counted:
            attention.move([5, 4, 3][:rows], [0, 1, 2][:rows], 50)
        launches[rows] = len(counted.names)
    assert launches[3] == launches[1] > 0


def test_rows_are_where_there_is_room_and_nobody_writes_over_another(flash):
    attention = VarlenAttention(100)
    assert attention.take(0, 60) and not attention.take(1, 60) and attention.take(1, 40)
    assert not attention.has_room(1)
    attention.drop(0)
    prefix = attention.prefix(30)
    assert attention.has_room(30) and not attention.has_room(31)
    assert attention.take(2, 31, must=True), "the pool grows for one that must"
    del prefix
    assert attention.has_room(60), "a prefix that nobody holds gives back its room"


def test_a_pool_joins_what_is_given_back():
    pool = Pool(50)
    starts = [pool.take(10) for _ in range(5)]
    assert starts == [0, 10, 20, 30, 40] and pool.take(1) is None
    for start in (30, 10, 20):
        pool.give(start, 10)
    assert pool.take(31) is None and pool.take(30) == 10
    pool.give(0, 10)
    pool.give(40, 10)
    pool.grow(15)
    assert [pool.take(10), pool.take(15), pool.take(1), pool.size] == [0, 40, None, 55]


# The engine around it, on a CPU that says of itself what a GPU would.


@pytest.fixture
def as_on_a_gpu(monkeypatch, flash):
    monkeypatch.setattr("arte_plugin.engines.transformers.why_not", lambda model: "")
    return flash


PREFIX = "Say whether it is true.\nQuestion: not False is\nAnswer: <ans>True</ans>\n\n"
RESTS = ["Question: not", "Question: ( not True ) or ( False and True ) is", "No", "Question: False or é is what?"]


def requests(count: int) -> list[Request]:
    greedy = [
        Request(f"{PREFIX * (1 + i % 3)}{i}. {rest}", f"draft {i}", 5 + 9 * ((i + place) % 3), 0.0, 0)
        for i, (place, rest) in itertools.product(range(count), enumerate(RESTS))
    ]
    alone = Request("alone", "alone", 12, 0.0, 0)
    return [*greedy, alone, Request(PREFIX + "drawn", "draft 0", 20, 0.9, 3), Request("drawn", "b", 9, 1.2, 7)]


@pytest.mark.parametrize("count", range(1, 8))
def test_replies_are_the_same_greedy_and_sampled(folder, tokenizer, as_on_a_gpu, count):
    model, batch = load(folder), requests(count)
    varlen = TransformersEngine(model, tokenizer)
    replies = varlen.generate(batch)
    assert varlen.describe()["varlen"] is True and as_on_a_gpu
    plain = TransformersEngine(model, tokenizer)
    plain._shares = True
    assert replies == plain.generate(batch)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("tokens", "in_flight"), [(10, 1), (900, 4), (100_000, 19)])
def test_rows_wait_for_room_and_one_is_always_let_in(folder, tokenizer, as_on_a_gpu, monkeypatch, tokens, in_flight):
    model, batch = load(folder), requests(4)
    expected = TransformersEngine(model, tokenizer).generate(batch)
    sizes, rows = [], []
    real = VarlenAttention.begin

    def begin(self, step):
        sizes.append(self._pool.size)
        rows.append(len(step.prefixes))
        real(self, step)

    monkeypatch.setattr(VarlenAttention, "begin", begin)
    monkeypatch.setattr("arte_plugin.engines.limits.FOR_LOGITS", 1e9)
    engine = TransformersEngine(model, tokenizer, memory=tokens * token_bytes(model))
    engine._shares = engine._varlen = True
    assert engine.generate(batch) == expected
    alone = max(len(tokenizer(one.prompt)["input_ids"]) + one.max_new_tokens for one in batch)
    assert max(sizes) <= max(tokens, 2 * alone), "a prefix and a row, and little is lost between them"
    assert max(rows) >= in_flight
    if tokens == 100_000:
        assert max(sizes) < 4000, "no more than there is to hold"


def test_on_a_gpu_keys_and_values_may_have_a_share_of_what_is_free(folder, tokenizer, monkeypatch):
    model = load(folder)
    engine = TransformersEngine(model, tokenizer)
    assert engine._budget() == 4 * 2**30
    assert TransformersEngine(model, tokenizer, memory=5e9)._budget() == 5e9
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (9_000_000, 80_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3_000_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2_000_000)
    assert free_bytes(torch.device("cpu")) is None
    monkeypatch.setattr("arte_plugin.engines.transformers.free_bytes", lambda _: free_bytes(torch.device("cuda:0")))
    assert engine._budget() == 0.6 * 10_000_000
    # Of that, an eighth besides for logits: 16 bytes for each row and token of the vocabulary.
    engine._shares = engine._varlen = True
    rows = [Row(one, tokenizer, []) for one in requests(7) * 40]
    slots, kept = engine._attention(rows)
    assert slots == 6_000_000 // 8 // (16 * model.config.vocab_size)
    assert kept.has_room(6_000_000 // engine._token_bytes) and not kept.has_room(1 + 6_000_000 // engine._token_bytes)


def test_the_plain_way_counts_the_prefixes_that_are_in_flight_together(folder, tokenizer):
    model = load(folder)
    rows = [row for family in families([Row(one, tokenizer, []) for one in requests(7)[:-3]]) for row in family.rows]
    longest = max(len(row.own) + row.request.max_new_tokens for row in rows)
    shared = [row.shared for row in rows[::4]]

    def at_a_time(tokens: int) -> int:
        return TransformersEngine(model, tokenizer, memory=tokens * token_bytes(model))._rows_at_a_time(rows)

    # Eight rows in a row have three prefixes at most: two families whole, or the ends of two and all of one.
    three = max(sum(shared[i : i + 3]) for i in range(5)) + 2 * max(shared)
    assert at_a_time(8 * longest + three) == 8 and at_a_time(8 * longest + three - 1) == 7
    assert at_a_time(1) == 1


def test_likelihoods_are_the_same(folder, tokenizer, as_on_a_gpu):
    model = load(folder)
    replies = [Reply(PREFIX + rest, f" {rest} <ans>True</ans>", "a") for rest in RESTS]
    varlen, plain = TransformersEngine(model, tokenizer), TransformersEngine(model, tokenizer)
    plain._shares = True
    seen, expected = varlen.likelihoods(replies), plain.likelihoods(replies)
    assert varlen.describe()["varlen"] and as_on_a_gpu
    for one, other in zip(seen, expected, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3) and one.tokens == other.tokens


def test_a_quantised_or_adapted_model_is_no_other_case(folder, tokenizer, as_on_a_gpu):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        adapted = peft.get_peft_model(load(folder), settings).eval()
    adapted.get_base_model().is_quantized = True
    engine, plain = TransformersEngine(adapted, tokenizer), TransformersEngine(adapted, tokenizer)
    plain._shares = True
    assert engine.generate(requests(2)) == plain.generate(requests(2)) and engine.describe()["varlen"]


def test_a_kernel_that_comes_to_something_else_is_told_of_once_and_left(
    folder, tokenizer, monkeypatch, caplog, as_on_a_gpu
):
    model, batch = load(folder), requests(3)
    plain = TransformersEngine(model, tokenizer)
    plain._shares = True
    expected = plain.generate(batch)
    flash = varlen_attention._flash

    def swapped(*given, **more):
        output, total = flash(*given, **more)
        return output, total.flip(0)

    monkeypatch.setattr(varlen_attention, "_flash", swapped)
    engine = TransformersEngine(model, tokenizer)
    monkeypatch.setattr(engine, "_on_gpu", lambda: True)
    with caplog.at_level(logging.INFO):
        assert engine.generate(batch) == engine.generate(batch) == expected
    assert engine.describe()["varlen"] is False and "would be off by" in engine.describe()["why_not"]["varlen"]
    told = [one for one in caplog.records if "Attention over shared prefixes" in one.message]
    assert [one.levelname for one in told] == ["WARNING"] and PlainAttention.name in told[0].message


def test_a_kernel_that_is_not_there_is_a_reason(folder, tokenizer):
    model = load(folder)
    reason = compare(model, some(64), lambda: VarlenAttention(0))
    assert "_flash_attention_forward" in reason
    assert model.config._attn_implementation == "sdpa"


def test_a_window_that_the_kernel_gets_wrong_is_seen_on_short_prompts(flash, monkeypatch):
    """The model's own window is far wider than what is tried."""
    model = mistral(1024)
    assert compare(model, some(64), lambda: VarlenAttention(0)) == ""
    flash = varlen_attention._flash
    monkeypatch.setattr(
        varlen_attention, "_flash", lambda *given, window=None, **more: flash(*given, window=None, **more)
    )
    assert "in a sliding window" in compare(model, some(64), lambda: VarlenAttention(0))


def test_capped_scores_are_left_to_the_plain_way(flash):
    config = Gemma2Config(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, attn_implementation="eager",
    )  # fmt: skip
    gemma = Gemma2ForCausalLM(config).eval()
    assert "capped" in compare(gemma, some(64), lambda: VarlenAttention(0))


def test_what_it_needs_of_the_machine_and_the_model(monkeypatch):
    def asked(device="cuda", capability=(8, 0), dtype=torch.bfloat16, **config):
        model = mistral(None, dtype=dtype)
        for key, value in config.items():
            setattr(model.config, key, value)
        weight = type("Weight", (), {"device": torch.device(device)})()
        monkeypatch.setattr(model, "get_input_embeddings", lambda: type("Embedding", (), {"weight": weight})())
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        return why_not(model)

    assert asked() == asked(capability=(9, 0)) == asked(dtype=torch.float16) == ""
    assert asked(device="cpu") == "the model is on a CPU"
    assert "older than Ampere (compute capability 7.5)" in asked(capability=(7, 5))
    assert asked(dtype=torch.float32) == "it computes in float32"
    assert asked(attn_logit_softcapping=50.0) == "its attention scores are capped"
    assert asked(head_dim=320) == "its heads are 320 wide"


def test_the_model_gets_its_own_attention_back_without_looking_for_it(folder, monkeypatch):
    """A kernel of the Hub is looked for by the setter, each time; and where that fails, ours would stay."""
    model, set_to = load(folder), []
    real = type(model).set_attn_implementation

    def offline(self, name, *given, **more):
        set_to.append(name)
        if name != NAME:
            raise OSError("no network")
        return real(self, name, *given, **more)

    monkeypatch.setattr(type(model), "set_attn_implementation", offline)
    model.config._attn_implementation_internal = "kernels-community/flash-attn3"
    packed = SharedPrefixModel(model, 2)
    for _ in range(2):
        with packed.attention():
            assert model.config._attn_implementation == NAME
        assert model.config._attn_implementation == "kernels-community/flash-attn3"
    assert set_to == [NAME, NAME]
