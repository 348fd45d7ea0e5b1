import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arte_plugin.language import prompts
from arte_plugin.language.question_tags import ParsedQuestion, parse_questions

TEXT = st.text(alphabet=st.characters(exclude_characters="<>"), min_size=1).filter(str.strip)
PIECES = st.sampled_from(
    [
        "<Question_4>",
        "</Question_4>",
        "<input>",
        "</input>",
        "<target>",
        "</target>",
        "text",
        "\n",
        "<",
        "</",
        "<question_x>",
    ]
)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_what_is_asked_for_is_read_back(pairs):
    reply = "\n".join(prompts.tagged_question(i, *pair) for i, pair in enumerate(pairs, 4))
    questions, rejected = parse_questions(reply)
    assert questions == [ParsedQuestion(question.strip(), target.strip()) for question, target in pairs]
    assert rejected == []


@given(st.lists(PIECES).map("".join) | st.text())
def test_every_block_is_accounted_for(reply):
    questions, rejected = parse_questions(reply)
    openings = len(re.findall(r"<question_\w*>", reply, re.IGNORECASE))
    assert len(questions) + len(rejected) >= max(1, openings)


@pytest.mark.parametrize(
    "reply",
    [
        "<Question_4><input>q</input><target>a</target>",
        "<input>q</input><target>a</target>",
        "<Question_4><input>q</target>\n<Target>a</target></Question_4>",
        "Sure!\n```\n<question_9>\n<input>\nq\n</input>\n<target> a </target>\n</question_9>\n```",
        "<Question_4><input>q\n<target>a</target></Question_4>",
        "<Question_4><INPUT>q</INPUT> <TARGET>a</TARGET></Question_5>",
    ],
)
def test_forms_that_are_read(reply):
    assert parse_questions(reply) == ([ParsedQuestion("q", "a")], [])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I can't do that.", "no_tags"),
        ("", "no_tags"),
        ("<Question_4><input>q</input><target>a", "truncated"),
        ("<Question_4><input>q", "truncated"),
        ("<Question_4><input>q</input><target></target>", "empty"),
        ("<Question_4><input>q</input><target>a</</target>", "malformed"),
        ("<Question_4><input>q</target>", "malformed"),
        ("<Question_4><input>q</target>more</target><target>a</target>", "malformed"),
    ],
)
def test_forms_that_are_rejected_with_a_reason(reply, reason):
    questions, rejected = parse_questions(reply)
    assert questions == []
    assert [found for found, _ in rejected] == [reason]


def test_a_target_before_its_input_is_no_question():
    questions, rejected = parse_questions("<Question_4><target>a</target><input>q</input></Question_4>")
    assert questions == []
    assert {reason for reason, _ in rejected} == {"malformed"}


def test_a_broken_block_does_not_take_its_neighbours_along():
    good = prompts.tagged_question(4, "q", "a")
    questions, rejected = parse_questions(f"{good}\n<Question_5><input>broken</Question_5>\n{good}")
    assert len(questions) == 2
    assert [reason for reason, _ in rejected] == ["malformed"]
