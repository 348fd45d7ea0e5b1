"""Where a reply ends: in the rule itself, token by token in the engine, and by servers that know only strings."""

import pytest
from transformers import AutoTokenizer

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Request, Thought
from arte_plugin.engines.endings import cut, reply_end
from arte_plugin.engines.in_flight import Row
from arte_plugin.engines.parts import MENTIONS, Parts
from arte_plugin.language import answers
from arte_plugin.language.prompts import RATIONALE_STOP
from arte_plugin.models.request_cache import request_key
from arte_plugin.rows import Draft, PreferenceQuestion
from arte_plugin.stages.lm_eval_files import judge_response
from arte_plugin.stages.probing import probe_request
from tests.tiny import tiny_model

MENTION = " I put the final answer between <ans> and </ans>."
THOUGHT = Thought("</think>", 40)


def ask(**changes) -> Request:
    given = {"prompt": "Q", "group": "a", "max_new_tokens": 120, "temperature": 0.0, "seed": 3, "stop": RATIONALE_STOP}
    return Request(**given | changes)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_model(tmp_path_factory.mktemp("tiny")))


def written(request: Request, text: str, tokenizer) -> Completion:
    """What the engine makes of a model that would write `text` and on and on, one token for each byte."""
    row = Row(request, tokenizer, [tokenizer.eos_token_id])
    for token in tokenizer(text + "~" * 400, add_special_tokens=False)["input_ids"]:
        row.take(token)
        if row.finish is not None:
            return row.completion()
    raise AssertionError("the row goes on")


CASES = [
    # What a model writes, and where it ends, as a request of this type has it; calls that this takes of a server.
    ("choice", " So <ans>(B)</ans>| and more <ans>(C)</ans>", 1),
    ("choice", MENTION + " It is <ans>(B)</ans>| and more", 2),
    ("boolean", MENTION + MENTION + " <ans>True</ans>|.", 3),
    ("number", " <ans>three</ans> that is <ans>3</ans>|, or <ans>4</ans>", 2),
    ("text", MENTION + " So: <ans>a b c</ans>| d", 2),
    ("text", " all of it\nQuestion:| What?", 1),
    ("number", MENTION + "\nQuestion:| <ans>3</ans>", 2),
]


@pytest.mark.parametrize(("kind", "marked", "calls"), CASES)
def test_a_mention_of_the_tags_ends_no_reply(kind, marked, calls, tokenizer):
    text, end = marked.replace("|", ""), marked.index("|")
    request = ask(answer=kind)
    assert reply_end(request, text) == end
    assert all(reply_end(request, text[:short]) is None for short in range(end))
    done = written(request, text, tokenizer)
    assert (done.text, done.finish, done.new_tokens) == (text[:end], "stop", end)


def test_a_probe_that_repeats_the_request_for_tags_is_not_cut_off(tokenizer):
    task = Task(TaskArgs(name="t", description="d", questions={"path": "x.jsonl"}, answer="boolean"), [], [], [], 0)
    draft = Draft("q-a", "t", "q", "Question?", "True", "a", "rationale", "True", "", "")

    class Student:
        class renderer:
            prompt = staticmethod(lambda text: "Q")

    request = probe_request(task, draft, PreferenceQuestion("p", "t", "?", "True", None, None), Student, ProbeArgs())
    assert written(request, MENTION + " <ans>True</ans>", tokenizer).text.endswith("<ans>True</ans>")


def test_the_test_ends_replies_by_the_same_rule():
    doc = {"target": "True", "answer_type": "boolean"}
    assert judge_response(doc, [MENTION + " <ans>True</ans> no <ans>False</ans>"]) == {"accuracy": 1.0, "unparsed": 0.0}


def test_nothing_in_a_thought_ends_a_reply_and_it_has_tokens_of_its_own(tokenizer):
    request = ask(answer="number", thought=THOUGHT, max_new_tokens=20)
    thought = "\nQuestion: <ans>1</ans> hm\n</think>"
    text = f"{thought} It is <ans>2</ans>"
    done = written(request, text, tokenizer)
    assert (done.text, done.finish) == (text, "stop")
    # Behind the thought there are 20 more, however many it took.
    assert written(request, thought + "x" * 30, tokenizer) == Completion(thought + "x" * 20, "length", 1, 55)
    assert written(request, "x" * 50, tokenizer) == Completion("x" * 40, "length", 1, 40)
    assert cut(request, "<ans>1</ans> all the way") == "<ans>1</ans> all the way"


def test_special_tokens_are_kept_where_a_thought_is_told_by_them(tokenizer):
    request = ask(answer="number", thought=Thought("<|im_start|>", 40), max_new_tokens=20)
    assert written(request, "hm<|im_start|><ans>2</ans>", tokenizer).text == "hm<|im_start|><ans>2</ans>"
    assert written(ask(answer="number"), "hm<|im_start|><ans>2</ans>", tokenizer).text == "hm<ans>2</ans>"


def serve(request: Request, whole: str, stops: bool = True) -> tuple[Completion, list[Request]]:
    """A server that would write `whole`, a token a letter, behind whatever part of it is in the prompt."""
    parts, asked = Parts(request, stops), []
    while (part := parts.next()) is not None:
        asked.append(part)
        rest = whole[len(part.prompt) - len(request.prompt) :]
        ends = [rest.index(stop) + len(stop) for stop in part.stop if stop in rest]
        end = min([*ends, part.max_new_tokens, len(rest)])
        finish = "stop" if end in ends or end == len(rest) else "length"
        parts.add(Completion(rest[:end], finish, len(part.prompt), end))
    return parts.completion(), asked


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize(("kind", "marked", "calls"), CASES)
def test_a_server_is_asked_to_go_on_from_a_mention(kind, marked, calls, stops):
    text, end = marked.replace("|", ""), marked.index("|")
    done, asked = serve(ask(answer=kind, max_new_tokens=300), text, stops)
    assert (done.text, done.finish, done.prompt_tokens) == (text[:end], "stop", 1)
    assert len(asked) == (calls if stops else 1) and asked[0].max_new_tokens == 300
    assert all(part.answer is None for part in asked)


def test_a_reply_that_ends_of_itself_behind_many_mentions_is_over():
    """The last call is not told to stop at the tag: a server that ends there is done, whatever it wrote last."""
    text = "I put it between <ans> and </ans>. " * 3 + "So: between <ans> and </ans>"
    done, asked = serve(ask(answer="number", max_new_tokens=300), text)
    assert (done.text, done.finish) == (text, "stop")
    assert len(asked) == 4


def test_mentions_without_end_cost_a_bounded_number_of_calls():
    request = ask(answer="number", max_new_tokens=2000)
    done, asked = serve(request, MENTION * 30 + "<ans>7</ans> and more")
    assert done.text == MENTION * 30 + "<ans>7</ans>"
    assert len(asked) == MENTIONS + 1
    assert len({part.seed for part in asked}) == len(asked)
    done, asked = serve(ask(answer="number", max_new_tokens=50), MENTION * 30)
    assert (done.finish, done.new_tokens) == ("length", 50)


def test_a_thought_is_a_call_of_its_own():
    whole = "<ans>1</ans>\nQuestion: hm</think> So <ans>2</ans> and more"
    request = ask(answer="number", thought=THOUGHT, max_new_tokens=20)
    done, asked = serve(request, whole)
    assert (done.text, done.finish) == (whole[: whole.index(" and")], "stop")
    assert [(part.stop[0], part.max_new_tokens) for part in asked] == [("</think>", 40), ("</ans>", 20)]
    assert serve(request, "x" * 50)[0] == Completion("x" * 40, "length", 1, 40)
    done, [asked] = serve(request, whole, stops=False)
    assert done.text == whole[: whole.index(" and")] and asked.max_new_tokens == 60


def test_the_cache_tells_such_requests_apart_and_knows_those_without(monkeypatch):
    plain = ask()
    keys = {request_key({}, one) for one in (plain, ask(answer="text"), ask(answer="choice"), ask(thought=THOUGHT))}
    assert len(keys) == 4
    # As ever, so that what was asked before is not asked again.
    assert request_key({}, plain) == "5a643d436b6891d8af6c528b168b98adfc7a2efdd8461b1083a3503096d09b53"
    before = request_key({}, ask(answer="text"))
    monkeypatch.setattr(answers, "VERSION", answers.VERSION + 1)
    assert request_key({}, ask(answer="text")) != before and request_key({}, plain) in keys
