"""The transformers engine on a tiny random Llama, against plain `generate` on one prompt at a time."""

import dataclasses
import json

import pytest

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from arte_plugin.engines.base import Completion, Request  # noqa: E402
from arte_plugin.engines.transformers import TransformersEngine, _Row, _Sampler  # noqa: E402
from arte_plugin.errors import DataError  # noqa: E402
from tests.tiny import tiny_model  # noqa: E402

PREFIX = "Say whether it is true.\nQuestion: not False is\nAnswer: <ans>True</ans>\n\n"
RESTS = ["Question: not", "Question: ( not True ) or ( False and True ) is", "No", "Question: False or é is what?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


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


def texts(completions: list[Completion]) -> list[str]:
    return [one.text for one in completions]


def test_a_shared_prefix_changes_nothing(engine, model, tokenizer):
    batch = [ask(rest) for rest in RESTS]
    expected = [plain(model, tokenizer, request) for request in batch]
    assert len(set(expected)) == len(batch), "the tiny model must tell the prompts apart"
    assert texts(engine.generate(batch)) == expected
    assert engine._prefix is not None and engine._prefix[0] == tokenizer(PREFIX)["input_ids"]


def test_prompts_without_a_common_start_and_a_prompt_that_is_the_prefix(engine, model, tokenizer):
    for batch in ([ask(rest, prompt=rest) for rest in RESTS], [ask(""), ask(" and more")], [ask(RESTS[0])]):
        assert texts(engine.generate(batch)) == [plain(model, tokenizer, request) for request in batch]


def test_the_next_batch_of_a_group_finds_the_prefix_untouched(engine, model, tokenizer, monkeypatch):
    prefills = []
    generate = engine._generate
    monkeypatch.setattr(
        engine, "_generate", lambda ids, *rest, **more: prefills.append(len(ids)) or generate(ids, *rest, **more)
    )
    for rests in (RESTS[:2] + RESTS[2:3], RESTS[3:] + RESTS[2:3], RESTS[:1] + RESTS[2:3]):
        batch = [ask(rest) for rest in rests]
        assert texts(engine.generate(batch)) == [plain(model, tokenizer, request) for request in batch]
    assert prefills == [1, 3, 2, 2]
    other = [ask(rest, prompt=PREFIX.upper() + rest) for rest in RESTS]
    assert texts(engine.generate(other)) == [plain(model, tokenizer, request) for request in other]


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
    rows = [_Row(ask("No", temperature=temperature, seed=seed), tokenizer, []) for seed in range(draws)]
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


def test_paged_generation_gives_the_same_and_keeps_its_manager(model, tokenizer, monkeypatch):
    monkeypatch.setattr("arte_plugin.engines.transformers.PAGED_MEMORY", 0.02)
    whole = plain(model, tokenizer, ask(RESTS[1]))
    batch = [
        ask(RESTS[0], max_new_tokens=3),
        ask(RESTS[1], stop=(whole[6:9],)),
        ask(RESTS[2]),
        ask(RESTS[3], group="b"),
    ]
    batch.append(ask(RESTS[0], temperature=1.0))
    padded = TransformersEngine(model, tokenizer).generate(batch)
    engine = TransformersEngine(model, tokenizer, paged=True)
    assert engine.generate(batch) == padded
    assert engine.generate(batch[::-1]) == padded[::-1]
    assert engine._paged and model.config._attn_implementation == "sdpa"
    engine.close()
    assert not hasattr(model, "_cached_continuous_batching_manager")


def test_where_paging_fails_padded_batches_take_over(model, tokenizer, monkeypatch, caplog):
    engine = TransformersEngine(model, tokenizer, paged=True)
    monkeypatch.setattr(engine, "_feed", lambda rows: rows[0].take(65) or model.no_such_thing)
    batch = [ask(rest) for rest in RESTS]
    for _ in range(2):
        assert texts(engine.generate(batch)) == [plain(model, tokenizer, request) for request in batch]
    assert sum("Paged generation is off" in record.message for record in caplog.records) == 1


def test_the_tiny_model_is_a_complete_checkpoint(folder, tokenizer, tmp_path):
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == 2048
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "é?"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == "<|im_start|>user\né?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(tokenizer(rendered)["input_ids"]) == rendered
    base = AutoTokenizer.from_pretrained(tiny_model(tmp_path, chat_template=False))
    assert base.chat_template is None and base.eos_token == "<|eos|>"
