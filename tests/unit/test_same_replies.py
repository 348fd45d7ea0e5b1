"""What `make gpu-check` holds the engine's replies against, and what it lets pass."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.gpu_check import same_replies
from benchmarks.gpu_check.same_replies import PREFIXES, SIBLINGS, Written, by_engine, compare, parts_at, plain, probes
from tests.taught import TAUGHT


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TAUGHT)


@pytest.fixture(params=["float32", "bfloat16"])
def model(request):
    return AutoModelForCausalLM.from_pretrained(TAUGHT, dtype=getattr(torch, request.param))


def test_the_engine_writes_what_the_model_does(model, tokenizer):
    families = [one[:3] for one in probes(tokenizer)]
    found = compare(model, tokenizer, families, 12)
    assert found.replies == 3 * len(PREFIXES)
    assert found.first_wrong is None
    assert found.same >= found.replies - 1
    assert found.how["dtype"] == str(model.dtype).removeprefix("torch.")
    assert found.how["shared"] is True


def test_probes_share_their_beginnings(tokenizer):
    for wanted, prompts in zip(PREFIXES, probes(tokenizer), strict=True):
        assert len(set(prompts)) == SIBLINGS
        tokens = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        alike = next(n for n, column in enumerate(zip(*tokens, strict=False)) if len(set(column)) > 1)
        # A tiny model's tokenizer has more tokens a word, and the shortest example is longer than the shortest prefix.
        assert alike > wanted / 2


def test_a_reply_that_is_wrong_is_shown(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(TAUGHT)

    def broken(*given):
        texts, how = by_engine(*given)
        return [texts[0][:4] + "#" + texts[0][5:], *texts[1:]], how

    found = compare(model, tokenizer, [one[:2] for one in probes(tokenizer)[:1]], 12, broken)
    assert (found.same, found.first_wrong["reply"]) == (1, 0)
    assert found.first_wrong["margin"] > found.near_tie
    assert "#" in found.first_wrong["engine"] and "#" not in found.first_wrong["plain"]


def test_near_ties_pass(tokenizer, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(TAUGHT)
    prompts = probes(tokenizer)[0][:1]
    own = plain(model, tokenizer, prompts[0], 12)
    place = min(range(len(own.margins)), key=lambda n: own.margins[n])

    def other(*given):
        _, how = by_engine(*given)
        return [(own.texts[place - 1] if place else "") + "\N{SNOWMAN}"], how

    for near_tie, wrong in ((own.margins[place] * 1.01, False), (own.margins[place] * 0.99, True)):
        monkeypatch.setitem(same_replies.NEAR_TIE, "float32", near_tie)
        found = compare(model, tokenizer, [prompts], 12, other)
        assert found.largest_margin == pytest.approx(own.margins[place])
        assert (found.first_wrong is not None) == wrong


@pytest.mark.parametrize(
    ("text", "place"),
    [("ab c", None), ("xb c", 0), ("aXc", 1), ("ab d", 2), ("ab c and on", 2), ("ab", 2), ("", 0)],
)
def test_where_replies_part(text, place):
    assert parts_at(Written(["a", "ab", "ab c"], [1.0, 1.0, 1.0]), text) == place


def test_half_a_character_is_no_difference():
    assert parts_at(Written(["�", "é", "é!"], [1.0, 1.0, 1.0]), "é?") == 2
