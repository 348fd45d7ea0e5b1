"""The quickstart's generators: exact solvers, and worked solutions that end in the solver's answer."""

import random

import pytest

from arte_plugin import answers
from generators import TASKS, TECHNIQUES


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
    "text", ["", "I have 2 cats.", "I have 2 cats and 1 plum. How many animals do I have?", "I have. How many animals?"]
)
def test_counting_solver_refuses_what_it_cannot_count(text):
    with pytest.raises(ValueError):
        TASKS["object_counting"].solve(text)


def test_counting_solver():
    assert TASKS["object_counting"].solve("I have 2 cats, 1 dog and 10 goats. How many animals do I have?") == "13"
    assert TASKS["object_counting"].solve("I have 1 plum, 3 pears, and 1 apple. How many fruits do I have?") == "5"
