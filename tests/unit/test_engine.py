"""The transformers engine on a tiny random Llama, against plain `generate` on one prompt at a time."""

import dataclasses
import json
from contextlib import contextmanager

import pytest

torch = pytest.importorskip("torch")

from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from arte_plugin.engines.base import Completion, Request  # noqa: E402
from arte_plugin.engines.in_flight import Row, by_length  # noqa: E402
from arte_plugin.engines.plain_attention import CHUNK, GROWTH  # noqa: E402
from arte_plugin.engines.shared_prefix import SharedPrefixModel, token_bytes  # noqa: E402
from arte_plugin.engines.transformers import TransformersEngine, _Sampler  # noqa: E402
from arte_plugin.errors import DataError  # noqa: E402
from tests.tiny import tiny_model  # noqa: E402

PREFIX = "Say whether it is true.\nQuestion: not False is\nAnswer: <ans>True</ans>\n\n"
RESTS = ["Question: not", "Question: ( not True ) or ( False and True ) is", "No", "Question: False or é is what?"]


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture
def engine(model, tokenizer):
    return TransformersEngine(model, tokenizer)


def ask(rest: str, **changes) -> Request:
    return Request(
        **{"prompt": PREFIX + rest, "group": "a", "max_new_tokens": 24, "temperature": 0.0, "seed": 0} | changes
    )


def new_tokens(model, tokenizer, request: Request) -> list[int]:
    """Plain greedy generation on the full prompt: what the engine must come to."""
    ids = tokenizer(request.prompt, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=request.max_new_tokens, do_sample=False)
    return out[0, ids["input_ids"].shape[1] :].tolist()


def plain(model, tokenizer, request: Request) -> str:
    return tokenizer.decode(new_tokens(model, tokenizer, request), skip_special_tokens=True)


@contextmanager
def tokens_computed(model):
    """How many tokens went through the model, in one list entry a forward."""
    seen = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    yield seen
    hook.remove()


def texts(completions: list[Completion]) -> list[str]:
    return [one.text for one in completions]


def test_a_shared_prefix_changes_nothing(engine, model, tokenizer):
    batch = [ask(rest) for rest in RESTS]
    expected = [plain(model, tokenizer, request) for request in batch]
    assert len(set(expected)) == len(batch), "the tiny model must tell the prompts apart"
    assert engine.generate(batch[:1])[0].text == expected[0], "the model's attention is tried on the first request"
    with tokens_computed(model) as computed:
        done = engine.generate(batch)
    assert texts(done) == expected
    shared = len(tokenizer(PREFIX)["input_ids"])
    own = sum(one.prompt_tokens - shared for one in done)
    assert sum(computed) == shared + own + sum(one.new_tokens - 1 for one in done), "nothing twice, and no padding"
    assert max(computed) <= max(shared, own), "one forward for what the rows have of their own"
    asked, needed = sum(one.prompt_tokens for one in done), shared + own
    first = done[0].prompt_tokens
    assert engine.report().startswith(f"{needed + first} prompt tokens computed for {asked + first} asked")
    assert engine.report() == ""


def test_prompts_without_a_common_start_and_a_prompt_that_is_the_prefix(engine, model, tokenizer):
    for batch in ([ask(rest, prompt=rest) for rest in RESTS], [ask(""), ask(" and more")], [ask(RESTS[0])]):
        assert texts(engine.generate(batch)) == [plain(model, tokenizer, request) for request in batch]


def test_the_next_batch_of_a_group_finds_the_prefix_untouched(engine, model, tokenizer):
    shared = len(tokenizer(PREFIX + "Question: ")["input_ids"])
    engine.generate([ask("")])
    for number, places in enumerate(([0, 1], [3, 1], [0, 3])):
        batch = [ask(RESTS[i]) for i in places]
        with tokens_computed(model) as computed:
            done = engine.generate(batch)
        assert texts(done) == [plain(model, tokenizer, request) for request in batch]
        assert (shared in computed) == (number == 0)
    other = [ask(rest, prompt=PREFIX.upper() + rest) for rest in RESTS]
    assert texts(engine.generate(other)) == [plain(model, tokenizer, request) for request in other]


def families(count: int) -> list[Request]:
    return [
        ask(rest, prompt=f"{i}. {PREFIX}{rest}", group=f"draft {i}", max_new_tokens=6 + 9 * (place % 3))
        for i in range(count)
        for place, rest in enumerate(RESTS)
    ]


def test_rows_that_end_make_room_for_others_of_any_group(model, tokenizer):
    batch = [*families(3), ask("", prompt="alone"), ask("", prompt="No one's sibling", temperature=0.7, group="b")]
    greedy = batch[:-1]
    expected = [plain(model, tokenizer, request) for request in greedy]
    whole = TransformersEngine(model, tokenizer).generate(batch)
    small = TransformersEngine(model, tokenizer)
    small._most_rows = 4
    heard = {}
    with tokens_computed(model) as computed:
        done = small.generate(batch, keep=lambda place, one: heard.setdefault(place, one))
    assert texts(done[:-1]) == texts(whole[:-1]) == expected and done[-1] == whole[-1]
    assert [heard[place] for place in range(len(batch))] == done
    assert list(heard) != sorted(heard), "short rows are told of before long ones that began earlier"
    assert sum(tokens == 4 for tokens in computed) > 15, computed


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_keys_and_values_stay_within_the_stated_memory(model, tokenizer, monkeypatch, slots):
    held = []
    settle = SharedPrefixModel.extend

    def extend(self, *args):
        logits = settle(self, *args)
        held.append(sum(t.numel() * t.element_size() for pair in self.kept._buffers.values() for t in pair))
        return logits

    monkeypatch.setattr(SharedPrefixModel, "extend", extend)
    batch = [ask(rest, max_new_tokens=70) for rest in RESTS * 2]
    longest = max(len(tokenizer(rest)["input_ids"]) for rest in RESTS) + 70
    memory = slots * longest * token_bytes(model) + 3 * len(PREFIX) * token_bytes(model)
    engine = TransformersEngine(model, tokenizer, memory=memory)
    engine.generate(batch)
    in_flight = min(slots, 32)
    assert 0 < max(held) <= in_flight * (longest + GROWTH) * token_bytes(model)


def test_long_prompts_pass_piece_by_piece(engine, model, tokenizer):
    long = "Is it so that " + " and ".join(f"({i} or not {i})" for i in range(60)) + "? "
    assert len(long) > 2 * CHUNK
    alone, pair = [ask("", prompt=long)], [ask("", prompt=long + rest) for rest in RESTS[:2]]
    two_long = [ask("", prompt=start + long, group=start) for start in ("A", "B")]
    for batch in (alone, pair, two_long):
        with tokens_computed(model) as computed:
            assert texts(engine.generate(batch)) == [plain(model, tokenizer, request) for request in batch]
        assert CHUNK in computed


def test_sliding_windows_and_capped_scores(tokenizer):
    """Gemma 2, the paper's student, has both."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, sliding_window=24, attn_logit_softcapping=5.0, initializer_range=0.2,
        max_position_embeddings=2048, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        query_pre_attn_scalar=16, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        gemma = Gemma2ForCausalLM(config).eval()
    for change in ("sliding_window", "attn_logit_softcapping"):
        assert getattr(gemma.config, change)
    batch = [ask(rest, max_new_tokens=40) for rest in RESTS]
    expected = [plain(gemma, tokenizer, request) for request in batch]
    with tokens_computed(gemma) as computed:
        engine = TransformersEngine(gemma, tokenizer)
        assert texts(engine.generate(batch)) == expected
    assert engine._shares and len(tokenizer(PREFIX)["input_ids"]) in computed
    gemma.config.sliding_window = gemma.model.layers[0].self_attn.sliding_window = 4096
    assert [plain(gemma, tokenizer, request) for request in batch] != expected, "the window must matter"


def test_a_model_with_an_attention_of_its_own_is_left_to_generate(model, tokenizer, monkeypatch, caplog):
    monkeypatch.setattr(
        "transformers.models.llama.modeling_llama.apply_rotary_pos_emb",
        lambda q, k, cos, sin: (q + cos.mean() * 0.2 * q.shape[2], k),  # What is packed makes a difference here.
    )
    batch = [ask(rest) for rest in RESTS]
    engine = TransformersEngine(model, tokenizer)
    engine.generate(batch)
    assert engine._shares is False and model.config._attn_implementation == "sdpa"
    assert "its logits would be off by" in caplog.text


def test_padded_batches_equal_plain_generation(model, tokenizer, monkeypatch):
    monkeypatch.setattr("arte_plugin.engines.transformers.can_share", lambda *_: "it is staged")
    batch = [*families(2), ask("No", temperature=1.0), ask(RESTS[1], stop=("a",))]
    shared = TransformersEngine(model, tokenizer).generate(batch)
    assert [one.text for one in shared[:8]] == [plain(model, tokenizer, request) for request in batch[:8]]
    assert shared[9].text.endswith("a") or shared[9].finish == "length"


def test_padding_adds_at_most_a_tenth(tokenizer):
    rows = [Row(ask("", prompt="x" * length), tokenizer, []) for length in (5, 90, 6, 100, 300, 95, 101, 99, 7, 310)]
    batches = list(by_length(rows, 3))
    assert sorted(id(row) for batch in batches for row in batch) == sorted(map(id, rows))
    for batch in batches:
        tokens = [len(row.prompt) for row in batch]
        assert len(batch) <= 3 and max(tokens) * len(tokens) <= 1.1 * sum(tokens)
    assert len(batches) < len(rows)


def test_a_sampled_completion_depends_on_its_seed_alone(engine):
    sampled = [ask(rest, temperature=1.0, seed=seed) for seed, rest in enumerate(RESTS)]
    state = torch.get_rng_state()
    together = engine.generate(sampled)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(7)
    assert engine.generate(sampled[::-1]) == together[::-1]
    assert [engine.generate([request])[0] for request in sampled] == together
    assert engine.generate([ask("No"), sampled[1], ask(RESTS[0])])[1] == together[1]
    again = engine.generate([dataclasses.replace(request, seed=99) for request in sampled])
    assert all(one.text != other.text for one, other in zip(again, together, strict=True))


def test_greedy_and_sampled_rows_mix(engine, model, tokenizer):
    greedy = ask(RESTS[1])
    mixed = engine.generate([ask(RESTS[0], temperature=1.5), greedy])
    assert mixed[1].text == plain(model, tokenizer, greedy)
    assert mixed[0].text != plain(model, tokenizer, ask(RESTS[0]))


def test_sampling_follows_the_temperature_and_never_the_impossible(tokenizer):
    draws, temperature = 2000, 2.0
    wanted = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    rows = [Row(ask("No", temperature=temperature, seed=seed), tokenizer, []) for seed in range(draws)]
    drawn = _Sampler(rows)(None, (wanted.log() * temperature).repeat(draws, 1)).argmax(-1)
    seen = torch.bincount(drawn, minlength=len(wanted)) / draws
    assert torch.all(seen[wanted == 0] == 0)
    assert torch.allclose(seen, wanted, atol=0.04)


def test_text_ends_behind_the_first_stop_string(engine, model, tokenizer):
    request = ask(RESTS[0], max_new_tokens=40)
    whole = plain(model, tokenizer, request)
    stops = (whole[9:12], whole[3:5])
    [cut] = engine.generate([dataclasses.replace(request, stop=stops)])
    end = min(whole.index(stop) + len(stop) for stop in stops)
    assert (cut.text, cut.finish) == (whole[:end], "stop")
    assert cut.new_tokens < 40


def test_a_stop_string_may_end_inside_a_token(model, tokenizer):
    """The tiny tokenizer writes single bytes, so a stand-in for its decoder makes every token three letters long."""

    class Triple:
        eos_token_id, pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id

        def __call__(self, text, **options):
            return tokenizer(text, **options)

        def decode(self, tokens, **options):
            return "".join(f"{token:03}" for token in tokens)

    written = [(request, new_tokens(model, tokenizer, request)) for request in map(ask, RESTS)]
    request, tokens = next(pair for pair in written if tokenizer.eos_token_id not in pair[1])
    whole = "".join(f"{token:03}" for token in tokens)
    stop = whole[7:16]
    [cut] = TransformersEngine(model, Triple()).generate([dataclasses.replace(request, stop=(stop,))])
    end = whole.index(stop) + len(stop)
    assert (cut.text, cut.finish, cut.new_tokens) == (whole[:end], "stop", -(-end // 3))


def test_each_row_has_its_own_stop_strings_and_length(engine, model, tokenizer):
    whole = plain(model, tokenizer, ask(RESTS[1]))
    batch = [
        ask(RESTS[0], max_new_tokens=3),
        ask(RESTS[1], stop=(whole[6:9],)),
        ask(RESTS[2]),
        ask(RESTS[3], max_new_tokens=1),
    ]
    done = engine.generate(batch)
    assert [one.new_tokens for one in done[::3]] == [3, 1] and done[2].new_tokens == 24
    assert [one.finish for one in done] == ["length", "stop", "length", "length"]
    assert done[1].text == whole[: whole.index(whole[6:9]) + 3]
    assert [one.prompt_tokens for one in done] == [len(tokenizer(request.prompt)["input_ids"]) for request in batch]
    assert done[0].text == plain(model, tokenizer, batch[0]) and done[2].text == plain(model, tokenizer, batch[2])


def test_every_end_token_that_the_checkpoint_names_ends_a_row(model, tokenizer, monkeypatch):
    tokens = new_tokens(model, tokenizer, ask(RESTS[0]))
    end = next(i for i in range(4, len(tokens)) if tokens[i] not in tokens[:i])
    monkeypatch.setattr(model.generation_config, "eos_token_id", [tokenizer.eos_token_id, tokens[end]])
    done = TransformersEngine(model, tokenizer).generate([ask(RESTS[0]), ask("Is it?")])
    assert (done[0].finish, done[0].new_tokens) == ("stop", end + 1)
    assert done[0].text == tokenizer.decode(tokens[:end], skip_special_tokens=True)
    assert done[1].finish == "stop" and done[1].text == plain(model, tokenizer, ask("Is it?"))


def test_the_checkpoint_s_generation_settings_do_not_leak_in(folder, tokenizer, model):
    batch = [ask(rest) for rest in RESTS]
    sampled = [ask(rest, temperature=0.8, seed=3) for rest in RESTS]
    clean = TransformersEngine(model, tokenizer).generate(batch + sampled)
    assert clean[: len(RESTS)] != clean[len(RESTS) :]
    leaky = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    leaky.generation_config.update(
        do_sample=True,
        repetition_penalty=1.9,
        top_k=1,
        top_p=0.1,
        temperature=3.0,
        max_length=5,
        no_repeat_ngram_size=1,
    )
    before = leaky.generation_config
    assert TransformersEngine(leaky, tokenizer).generate(batch + sampled) == clean
    assert leaky.generation_config is before


def test_a_request_beyond_the_context_is_refused(engine):
    with pytest.raises(DataError, match=r"2000 tokens and a reply of up to 49 don't fit into the model's 2048"):
        engine.generate([ask("", prompt="x" * 2000, max_new_tokens=49)])


def test_a_peft_model_generates_with_its_adapter(folder, tokenizer):
    peft = pytest.importorskip("peft")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        adapted = peft.get_peft_model(base, settings).train()
    batch = [ask(rest) for rest in RESTS]
    done = texts(TransformersEngine(adapted, tokenizer).generate(batch))
    assert done == [plain(adapted, tokenizer, request) for request in batch]
    with adapted.disable_adapter():
        assert done != [plain(adapted, tokenizer, request) for request in batch]


@pytest.mark.parametrize("shares", [True, False])
def test_an_end_of_turn_that_is_not_the_checkpoints_eos_ends_a_reply(model, tokenizer, shares, monkeypatch):
    """As of a base model whose chat template ends turns with a token that its own config knows nothing of."""
    request = ask(RESTS[1])
    written = new_tokens(model, tokenizer, request)
    place = next(i for i, token in enumerate(written) if i > 3 and token not in written[:i])
    engine = TransformersEngine(model, tokenizer, ends=[written[place]])
    if not shares:
        monkeypatch.setattr(engine, "_shares", False)
    [done] = engine.generate([request])
    assert (done.text, done.finish) == (tokenizer.decode(written[:place]), "stop")
    assert done.new_tokens == place + 1
    [longer] = TransformersEngine(model, tokenizer).generate([request])
    assert longer.new_tokens > done.new_tokens


def test_the_tiny_model_is_a_complete_checkpoint(folder, tokenizer, tmp_path):
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == 2048
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "é?"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == "<|im_start|>user\né?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(tokenizer(rendered)["input_ids"]) == rendered
    base = AutoTokenizer.from_pretrained(tiny_model(tmp_path, chat_template=False))
    assert base.chat_template is None and base.eos_token == "<|eos|>"


def test_an_empty_prompt_is_refused(engine):
    """Among others it would be continued as one of them."""
    with pytest.raises(DataError, match="A prompt is empty"):
        engine.generate([ask("No"), dataclasses.replace(ask("No"), prompt="")])


def test_a_prefix_of_other_weights_is_not_used_again(folder, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    batch = [ask(rest) for rest in RESTS]
    engine = TransformersEngine(model, tokenizer)
    before = texts(engine.generate(batch))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    ids = tokenizer(PREFIX, return_tensors="pt")["input_ids"]
    model(input_ids=ids, labels=ids).loss.backward()
    optimiser.step()
    after = texts(engine.generate(batch))
    assert after == [plain(model, tokenizer, one) for one in batch] and after != before


def test_a_prefix_is_not_that_of_another_adapter(folder, tokenizer):
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(base, LoraConfig(r=4, target_modules=["v_proj", "down_proj"], init_lora_weights=False))
    batch = [ask(rest) for rest in RESTS]
    engine = TransformersEngine(model, tokenizer)
    with model.disable_adapter():
        off = texts(engine.generate(batch))
    on = texts(engine.generate(batch))
    assert on == [plain(model, tokenizer, one) for one in batch] and on != off
