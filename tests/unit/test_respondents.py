"""Who answers the validation questions, and that no two of them become one row of the matrix."""

import pytest
from pydantic import ValidationError

from arte_plugin.config.arte import ArteArgs
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.rows import Question, Response
from arte_plugin.stages.choosing import _matrix
from arte_plugin.stages.respondents import respondents

TASK = {"name": "t", "description": "d", "questions": {"path": "unread.jsonl"}}


def args(students, configured=()):
    return ArteArgs.model_validate(
        {"student": students, "tasks": [TASK], "preference_set": {"respondents": list(configured)}}
    )


def test_one_model_plain_and_in_chat_is_two_respondents():
    found = respondents(args({"base_model": "s"}, [{"base_model": "m", "prompt_style": p} for p in ("plain", "chat")]))
    assert [(one.name, one.settings.prompt_style) for one in found] == [("m (plain)", "plain"), ("m (chat)", "chat")]
    assert [one.like.base_model for one in found] == ["s", "s"]


def test_a_model_of_its_own_keeps_its_name():
    (one, other) = respondents(args({"base_model": "s"}, [{"base_model": "m"}, {"base_model": "n"}]))
    assert (one.name, other.name) == ("m", "n")


def test_students_of_one_checkpoint_answer_each_in_its_own_way():
    found = respondents(args([{"name": p, "base_model": "m", "prompt_style": p} for p in ("plain", "chat")]))
    assert [(one.name, one.settings.prompt_style) for one in found] == [("m (plain)", "plain"), ("m (chat)", "chat")]


def test_default_respondents_are_loaded_as_their_own_student_is():
    students = [
        {"base_model": "m"},
        {"base_model": "n", "dtype": "float16", "attn_implementation": "eager", "trust_remote_code": True},
    ]
    first, second = respondents(args(students))
    assert (first.like.dtype, first.like.trust_remote_code) == ("auto", False)
    assert (second.like.dtype, second.like.attn_implementation, second.like.trust_remote_code) == (
        "float16", "eager", True,
    )  # fmt: skip


def test_students_that_answer_alike_are_one_respondent():
    students = [
        {"name": name, "base_model": "m", "sft": {"learning_rate": rate}} for name, rate in (("a", 1), ("b", 2))
    ]
    assert [one.name for one in respondents(args(students))] == ["m"]


def test_the_same_respondent_twice_is_refused_with_what_is_the_same():
    twice = [{"base_model": "m", "shots": [0, 1]}, {"base_model": "m", "shots": [1]}]
    with pytest.raises(ValidationError, match=r"m with `prompt_style: auto` answers at 1 shots twice"):
        args({"base_model": "s"}, twice)
    assert len(respondents(args({"base_model": "s"}, [{**one, "shots": [i]} for i, one in enumerate(twice)]))) == 2


def test_two_ways_that_come_to_the_same_are_refused_too():
    made = args({"base_model": "s"}, [{"base_model": "m"}, {"base_model": "m", "prompt_style": "chat"}])
    # `auto` has been found to be `chat`.
    made.preference_set.respondents[0].prompt_style = "chat"
    with pytest.raises(ConfigError, match="answers at 0 shots twice"):
        respondents(made)


def test_a_row_never_takes_another_ones_place():
    questions = [Question(f"q{i}", "t", "", "") for i in range(3)]
    rows = [Response("m 0-shot", 0, "t", q.question_id, "", "", "correct") for q in questions]
    with pytest.raises(DataError, match="the same name"):
        _matrix(questions, rows + rows)
