"""The quickstart's generators: exact solvers, and worked solutions that end in the solver's answer."""

import random

import pytest

from arte_plugin.language import answers
from generators import ALSO, KIND_OF, KINDS, TASKS, TECHNIQUES


@pytest.mark.parametrize("name", TASKS)
def test_every_rationale_ends_in_the_right_answer(name):
    generator = TASKS[name]
    rng = random.Random(0)
    for _ in range(300):
        question = generator.question(rng)
        rationales = {generator.rationale(question, technique) for technique in TECHNIQUES}
        assert len(rationales) == 4
        for rationale in rationales:
            assert answers.judge(rationale, generator.solve(question), generator.answer)[1] == "correct"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("not ( True ) and ( True ) is", "False"),
        ("True and not not ( not False ) is", "True"),
        ("False or True and False is", "False"),
        ("not False or False and False is", "True"),
    ],
)
def test_boolean_solver_knows_precedence(question, answer):
    assert TASKS["boolean_expressions"].solve(question) == answer


@pytest.mark.parametrize(
    "text", ["", "is", "( True is", "True True is", "maybe is", "True and is", "__import__('os') is"]
)
def test_boolean_solver_refuses_what_is_no_expression(text):
    with pytest.raises(ValueError):
        TASKS["boolean_expressions"].solve(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What kind of thing does the word pebble name?",
        "What does the word pear name?",
        "What kind of thing is pear?",
    ],
)
def test_kind_solver_refuses_what_it_does_not_know(text):
    with pytest.raises(ValueError):
        TASKS["kind_of_thing"].solve(text)


def test_kind_solver():
    assert TASKS["kind_of_thing"].solve("What kind of thing does the word pear name?") == "fruit"
    assert TASKS["kind_of_thing"].solve("What kind of thing does the word lorry name?") == "vehicle"


def test_no_word_is_of_two_kinds():
    assert len(KIND_OF) == sum(len(f"{words} {ALSO[kind]}".split()) for kind, (_, words) in KINDS.items())
