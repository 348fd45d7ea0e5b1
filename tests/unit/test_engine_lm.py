"""Our engine in the place of lm-eval's own model: the same answers, without computing anything twice."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hub_cache import FACTS
from tests.tiny import BOS, tiny_model

SHOTS = "".join(f"Question: {question}\nAnswer: {choices['ABCD'.index(key)]}\n\n" for question, choices, key in FACTS)


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    folder = tiny_model(tmp_path_factory.mktemp("student"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = begin
    tokenizer.save_pretrained(folder)
    return folder


def load(student: Path, dtype: str = "float32"):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(student, dtype=getattr(torch, dtype))
    return model, AutoTokenizer.from_pretrained(student)


def ours(model, tokenizer, **more):
    from arte_plugin.engines.transformers import TransformersEngine
    from arte_plugin.stages.engine_lm import EngineLM

    return EngineLM(model, tokenizer, TransformersEngine(model, tokenizer), **more)


def stock(model, tokenizer, batch_size=4, **more):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size, **more)


def instances(kind: str, *arguments):
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=i, metadata=("a_task", i, 1))
        for i, one in enumerate(arguments)
    ]


def multiple_choice(shots: str = SHOTS):
    """Continuations of several tokens and of one, among them two that are the same."""
    return [
        (f"{shots}Question: {question}\nAnswer:", ending)
        for question, choices, _ in FACTS
        for ending in [*(f" {choice}" for choice in choices), "A", "B", "B"]
    ]


ODD = [
    ("", "no context at all"),
    (" ", "x"),
    ("Its spaces move  ", "over"),
    ("Only one continuation:", " of some tokens"),
    ("too long for the context " * 120, " cut on the left"),
    ("cut within", " the continuation" * 90),
    (BOS + "begins with its BOS", " already"),
]


@pytest.mark.parametrize("asked", [multiple_choice(), multiple_choice(""), ODD, [*multiple_choice(), *ODD]])
def test_log_likelihoods_are_lm_evals(student, asked):
    pair = load(student)
    requests = instances("loglikelihood", *asked)
    expected = stock(*pair).loglikelihood(requests, disable_tqdm=True)
    found = ours(*pair).loglikelihood(requests)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], rel=1e-6, abs=1e-4)
    assert [one[1] for one in found] == [one[1] for one in expected]


def test_what_greedy_decoding_would_write_is_told_from_what_it_would_not(student):
    model, tokenizer = load(student)
    ids = tokenizer("Once upon a time", return_tensors="pt")["input_ids"]
    written = model.generate(ids, max_new_tokens=3, do_sample=False)[0, ids.shape[1] :]
    engine = ours(model, tokenizer).engine
    from arte_plugin.engines.base import Continuation

    context, likeliest = tuple(ids[0].tolist()), tuple(written.tolist())
    other = (*likeliest[:2], (likeliest[2] + 1) % 256)
    found = engine.weigh([Continuation(context, one) for one in (likeliest, other, likeliest[:1], other[1:])])
    assert [one.greedy for one in found] == [True, False, True, False]


def test_on_a_gpu_log_likelihoods_come_from_variable_length_attention(student, monkeypatch):
    """Each continuation takes the place of the last one behind its context there, too."""
    from tests.flash_reference import flash_on_the_cpu

    pair = load(student)
    asked = [*multiple_choice(), *multiple_choice(""), *ODD]
    requests = instances("loglikelihood", *asked)
    expected = ours(*pair).loglikelihood(requests)
    monkeypatch.setattr("arte_plugin.engines.transformers.why_not", lambda model: "")
    with flash_on_the_cpu() as calls:
        lm = ours(*pair)
        found = lm.loglikelihood(requests)
        assert lm.engine._varlen and len(calls) > 10
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], rel=1e-6, abs=1e-4)
    assert [one[1] for one in found] == [one[1] for one in expected]


def test_rolling_log_likelihoods_are_lm_evals(student):
    pair = load(student)
    requests = instances("loglikelihood_rolling", ("A short text.",), ("One that is cut into windows. " * 160,))
    expected = stock(*pair).loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours(*pair).loglikelihood_rolling(requests) == pytest.approx(expected, rel=1e-6)


def test_log_likelihoods_are_summed_in_float32_whatever_the_models_precision(student):
    """In bfloat16, sums beyond 64 nats are half a nat apart, and log-probabilities beyond 8 a sixteenth."""
    import torch

    model, tokenizer = load(student, "bfloat16")
    asked = multiple_choice()
    requests = instances("loglikelihood", *asked)
    found = [one[0] for one in ours(model, tokenizer).loglikelihood(requests)]
    exact = []
    for prompt, ending in asked:
        before, whole = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (prompt, prompt + ending))
        with torch.no_grad():
            scores = model(whole).logits.double().log_softmax(-1)[0, before.shape[1] - 1 : -1]
        exact.append(scores.gather(1, whole[0, before.shape[1] :, None]).sum().item())
    assert min(exact) < -64
    # What attention rounds on its way to the logits is another thing.
    assert found == pytest.approx(exact, abs=0.4)
    coarse = [one for one in found if torch.tensor(one).bfloat16().item() == one]
    assert len(coarse) < 0.1 * len(found)
    of_lm_eval = [one[0] for one in stock(model, tokenizer).loglikelihood(requests, disable_tqdm=True)]
    assert [torch.tensor(one).bfloat16().item() for one in of_lm_eval] == of_lm_eval


def test_examples_and_questions_are_computed_once(student):
    model, tokenizer = load(student)
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda module, given, out: seen.append(given[0].numel()))
    asked = multiple_choice()
    ours(model, tokenizer).loglikelihood(instances("loglikelihood", *asked))
    contexts = {context for context, _ in asked}
    tokens = len(SHOTS) + sum(len(context) - len(SHOTS) for context in contexts) + sum(len(one) for _, one in asked)
    tried = 3 * 64  # Whether the model's attention can be taken over.
    assert sum(seen) <= tokens + tried < sum(len(context) for context in contexts)


def test_replies_are_lm_evals(student):
    pair = load(student)
    settings = {"until": ["\n\n", "Q"], "do_sample": False}
    asked = [
        *((f"{SHOTS}Question: {question}\nAnswer:", {**settings, "max_gen_toks": 12}) for question, _, _ in FACTS),
        ("Another length", {"until": "x", "max_gen_toks": 5, "temperature": 0.0}),
        ("cut on the left " * 140, {"until": [], "max_gen_toks": 7}),
        ("Another length", {"until": "x", "max_gen_toks": 5, "temperature": 0.0}),
        (BOS + "begins with its BOS", {"max_new_tokens": 4}),
    ]
    requests = instances("generate_until", *asked)
    # One at a time: what lm-eval pads is another question.
    expected = [stock(*pair).generate_until([one], disable_tqdm=True)[0] for one in copy.deepcopy(requests)]
    assert ours(*pair).generate_until(requests) == expected
    assert ours(*pair, batch_size=2).generate_until(requests) == expected


def test_lm_evals_cache_hook_hears_of_every_answer(student):
    lm, heard = ours(*load(student)), []
    lm.set_cache_hook(SimpleNamespace(add_partial=lambda *told: heard.append(told)))
    lm.line = SimpleNamespace(reset=lambda total: heard.append(total))
    likely = lm.loglikelihood(instances("loglikelihood", ("a", "b"), ("a", "c")))
    (reply,) = lm.generate_until(instances("generate_until", ("a", {"max_gen_toks": 2})))
    (rolled,) = lm.loglikelihood_rolling(instances("loglikelihood_rolling", ("abc",)))
    assert heard == [
        2, ("loglikelihood", ("a", "b"), likely[0]), ("loglikelihood", ("a", "c"), likely[1]),
        1, ("generate_until", ("a", {"max_gen_toks": 2}), reply),
        1, ("loglikelihood_rolling", ("abc",), rolled),
    ]  # fmt: skip


@pytest.mark.parametrize("asks", ["the task", "the checkpoint"])
def test_what_the_engine_does_not_do_lm_eval_does_itself(student, asks):
    model, tokenizer = load(student)
    settings = {"until": ["\n\n"], "max_gen_toks": 40}
    if asks == "the task":
        settings["no_repeat_ngram_size"] = 1
    else:
        model.generation_config.repetition_penalty = 3.0
    requests = instances("generate_until", (f"{SHOTS}Question:", settings))
    plain = instances("generate_until", (f"{SHOTS}Question:", {"until": ["\n\n"], "max_gen_toks": 40}))
    expected = stock(model, tokenizer).generate_until(copy.deepcopy(requests), disable_tqdm=True)
    lm = ours(model, tokenizer)
    assert lm.generate_until(requests, disable_tqdm=True) == expected
    model.generation_config.repetition_penalty = None
    assert lm.generate_until(plain) != expected, "or it would not tell the two apart"


def test_a_model_whose_attention_is_its_own_is_weighed_by_lm_eval(student, monkeypatch):
    from arte_plugin.engines import transformers as engine

    monkeypatch.setattr(engine, "can_share", lambda *_: "it is not ours")
    pair = load(student)
    requests = instances("loglikelihood", *multiple_choice(""))
    expected = stock(*pair, softmax_dtype="float32").loglikelihood(requests, disable_tqdm=True)
    found = ours(*pair).loglikelihood(requests, disable_tqdm=True)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=1e-4)


def test_a_special_token_among_the_stop_strings_ends_a_reply(student):
    """As in lm-eval's own gsm8k, whose stops name the end of a turn: no text that is decoded shows it."""
    import torch

    model, tokenizer = load(student)
    end = tokenizer.bos_token_id
    assert end != tokenizer.eos_token_id
    with torch.no_grad():
        model.lm_head.weight[end] *= 40  # It writes it soon.
    asked = {"until": ["Question:", "</s>", BOS], "do_sample": False, "max_gen_toks": 24}
    prompts = [f"Question: what is {i} + {i * i}?\nAnswer:" for i in range(10)]
    requests = instances("generate_until", *((prompt, dict(asked)) for prompt in prompts))
    # One at a time: in a batch, lm-eval's own replies go on behind the token until the batch's last one is over.
    judge = stock(model, tokenizer, batch_size=1)
    expected = judge.generate_until(requests, disable_tqdm=True)
    without = [(prompt, {**asked, "until": ["Question:"]}) for prompt in prompts]
    assert judge.generate_until(instances("generate_until", *without), disable_tqdm=True) != expected
    assert ours(model, tokenizer).generate_until(requests) == expected


@pytest.mark.parametrize("beginning", ["", "Question: as short as it is, "])
def test_questions_that_have_little_in_common_are_computed_together(student, beginning):
    """As benchmarks without examples ask them: one at a time, they would be slower than by lm-eval's own model."""
    model, tokenizer = load(student)
    contexts = [f"{beginning if i % 15 < 3 else ''}{chr(65 + i)}, number {i * 37}: what follows?" for i in range(30)]
    asked = [(context, f" {ending}") for context in contexts for ending in ("this one", "that one there", "none")]
    requests = instances("loglikelihood", *asked)
    expected = stock(model, tokenizer).loglikelihood(requests, disable_tqdm=True)
    lm = ours(model, tokenizer)
    lm.loglikelihood(requests[:3])
    forwards = []
    model.register_forward_pre_hook(lambda *given: forwards.append(1))
    found = lm.loglikelihood(requests)
    # The contexts, and one for each of their three continuations.
    assert len(forwards) == 4
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], rel=1e-6, abs=1e-4)
    assert [one[1] for one in found] == [one[1] for one in expected]


def test_a_length_in_the_checkpoint_goes_before_the_task_s_as_in_lm_eval(student):
    model, tokenizer = load(student)
    model.generation_config.max_new_tokens = 3
    asked = instances("generate_until", (f"{SHOTS}Question:", {"until": ["\n\n"], "max_gen_toks": 12}))
    expected = stock(model, tokenizer).generate_until(copy.deepcopy(asked), disable_tqdm=True)
    assert ours(model, tokenizer).generate_until(asked, disable_tqdm=True) == expected
