"""Likelihoods of given replies on a tiny random Llama, against the plain model's own logits."""

import json
import math

import pytest

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM  # noqa: E402

from arte_plugin.config.signals import read_signals  # noqa: E402
from arte_plugin.engines.base import Likelihood, Reply  # noqa: E402
from arte_plugin.engines.likelihood import log_likelihoods, reply_tokens  # noqa: E402
from arte_plugin.engines.transformers import TransformersEngine  # noqa: E402
from arte_plugin.errors import DataError  # noqa: E402
from arte_plugin.language.rendering import Renderer  # noqa: E402
from arte_plugin.models.likelihoods import ask_likelihoods  # noqa: E402
from arte_plugin.models.model import Model  # noqa: E402
from arte_plugin.models.request_cache import LIKELIHOODS, RequestCache, reply_key  # noqa: E402
from arte_plugin.rows import AnswerLikelihood, Draft  # noqa: E402
from arte_plugin.signals.likelihood import means  # noqa: E402
from arte_plugin.stages.scoring import Scoring  # noqa: E402

PREFIX = "Say whether it is true.\nQuestion: not False is\nAnswer: <ans>True</ans>\n\nQuestion: "
REPLIES = [
    Reply(prompt=f"{PREFIX}{question} is\nAnswer: <ans>", text=f"{answer}</ans>", group="a")
    for question, answer in (("not", "True"), ("( not True ) or é", "False"), ("1 + 2", "3"), ("", ""))
]


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def directly(model, tokenizer, reply: Reply) -> float:
    """The sum over the reply's tokens (bytes here, so that they split nowhere else) of one plain forward pass."""
    prompt = tokenizer(reply.prompt, add_special_tokens=False)["input_ids"]
    written = tokenizer(reply.text, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + written])).logits[0].double()
    found = torch.log_softmax(logits, dim=-1)
    return sum(float(found[len(prompt) - 1 + i, token]) for i, token in enumerate(written))


@pytest.mark.parametrize("share", [True, False])
def test_is_what_the_plain_models_logits_come_to_whatever_the_batch(model, tokenizer, share):
    expected = [directly(model, tokenizer, reply) for reply in REPLIES]
    assert max(expected) - min(expected) > 1, "the tiny model must tell the replies apart"
    batch = log_likelihoods(model, tokenizer, REPLIES, share=share)
    alone = [log_likelihoods(model, tokenizer, [reply], share=share)[0] for reply in REPLIES]
    for found in (batch, alone):
        assert [one.log_probability for one in found] == pytest.approx(expected, abs=1e-4)
        assert [one.tokens for one in found] == [len(reply.text.encode()) for reply in REPLIES]
        assert [one.all_tokens for one in found] == [len((reply.prompt + reply.text).encode()) for reply in REPLIES]


def test_prompts_that_share_nothing(model, tokenizer):
    replies = [Reply("Yes or no? ", "yes", "a"), Reply("A letter: ", "b", "a")]
    expected = [directly(model, tokenizer, reply) for reply in replies]
    found = log_likelihoods(model, tokenizer, replies)
    assert [one.log_probability for one in found] == pytest.approx(expected, abs=1e-4)
    assert log_likelihoods(model, tokenizer, []) == []


def test_a_model_whose_attention_can_t_be_taken_over(model, tokenizer, monkeypatch):
    expected = TransformersEngine(model, tokenizer).likelihoods(REPLIES)
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda input_ids, use_cache: forward(input_ids=input_ids, use_cache=use_cache)
    )
    found = TransformersEngine(model, tokenizer).likelihoods(REPLIES)
    assert [one.log_probability for one in found] == pytest.approx([one.log_probability for one in expected], abs=1e-4)


def test_the_token_across_the_boundary_is_the_replys():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, '>"'])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[(">", '"')]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merging = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokens, scored = reply_tokens(Reply("<ans>", '"x"', "a"), merging)
    assert merging.convert_ids_to_tokens(tokens) == ["<", "a", "n", "s", '>"', "x", '"']
    assert scored == 3
    assert reply_tokens(Reply("<ans>", "x", "a"), merging)[1] == 1


def test_a_text_that_is_too_long_is_told(model, tokenizer):
    with pytest.raises(DataError, match="2048 positions"):
        log_likelihoods(model, tokenizer, [Reply("a" * 3000, "b", "a")])


def test_a_prompt_that_a_reply_cant_follow_on_is_told(model, tokenizer):
    """There are no logits that would tell of its first token; those of another row must not be taken."""
    engine, empty = TransformersEngine(model, tokenizer), Reply("", "abc", "a")
    for batch in ([empty], [empty, *REPLIES], [*REPLIES, empty]):
        with pytest.raises(DataError, match="A prompt is empty"):
            engine.likelihoods(batch)
        for share in (True, False):
            with pytest.raises(DataError, match="A prompt is empty"):
                log_likelihoods(model, tokenizer, batch, share=share)
    expected = [directly(model, tokenizer, reply) for reply in REPLIES]
    found = engine.likelihoods(REPLIES)
    assert [one.log_probability for one in found] == pytest.approx(expected, abs=1e-4)
    assert engine.describe()["shared"] and "why_not" not in engine.describe(), "it says nothing about the model"


def test_a_prompt_that_is_one_token_with_its_reply_is_told(model, folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merging = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert reply_tokens(Reply("a", "b", "a"), merging) == ([2], 1)
    for share in (True, False):
        with pytest.raises(DataError, match=r"no token of its own.*'a'"):
            log_likelihoods(model, merging, [Reply("a", "b", "a"), Reply("bb", "b", "a")], share=share)


def test_the_second_time_nothing_is_asked(folder, model, tokenizer, tmp_path):
    def student(load):
        return Model(
            "s", {"model": "x"}, Renderer(tokenizer, "plain"), load, RequestCache(tmp_path / "c.sqlite"), 2, 9.0
        )

    first = student(lambda: TransformersEngine(model, tokenizer))
    found = ask_likelihoods(first, [*REPLIES, REPLIES[0]], "test")
    assert found[0] == found[-1] and first.usage.asked == len(REPLIES) and first.usage.requests == len(REPLIES) + 1
    expected = [directly(model, tokenizer, reply) for reply in REPLIES]
    assert [one.log_probability for one in found[:-1]] == pytest.approx(expected, abs=1e-4)

    def never():
        raise AssertionError("the model was loaded")

    assert ask_likelihoods(student(never), [*REPLIES, REPLIES[0]], "test") == found


def test_likelihoods_and_completions_are_kept_apart_and_copied_from_another_run(tmp_path):
    key, kept = reply_key({"model": "x"}, REPLIES[0]), Likelihood(-1.5, 3, 40)
    there = RequestCache(tmp_path / "there.sqlite")
    there.put_into(LIKELIHOODS, [(key, kept)])
    assert there.get([key]) == {} and there.count([key]) == 0 and there.count([key], LIKELIHOODS) == 1
    here = RequestCache(tmp_path / "here.sqlite", also=there.path)
    assert here.get_of(LIKELIHOODS, [key]) == {key: kept} and here.count([key], LIKELIHOODS) == 1
    there._db.execute("DROP TABLE likelihoods")
    old = RequestCache(tmp_path / "new.sqlite", also=there.path)
    assert old.get_of(LIKELIHOODS, [key]) == {}


def test_a_score_is_the_mean_probability():
    draft = Draft("q1-a", "t", "q1", "?", "1", "a", "r", "1", "p", "s")
    rows = [AnswerLikelihood("q1-a", f"p{i}", "t", "s", math.log(p), 2) for i, p in enumerate((0.5, 0.25, 1.0, 0.25))]
    (found,), _ = Scoring(read_signals(["likelihood"]), list(means(rows))).scores([draft])
    assert found.score == pytest.approx(0.5) and found.n == 4 and found.question_id == "q1"
    assert 0 < found.low < 0.5 < found.high < 1 and json.dumps(found.unparsed) == "0"
