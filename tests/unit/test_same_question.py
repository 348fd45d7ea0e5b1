import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arte_plugin.data.same_question import comparable, is_same, split_options, strictly, targets_an_option
from arte_plugin.rows import Question

SAME = [
    ("not ( True ) and ( True ) is", "not (True) and (True) is"),
    ("2+2?", "2 + 2"),
    ("((-1 + 2 + 9 * 5) - (-2)) =", "( ( −1 + 2 + 9*5 ) - ( -2 ) ) ="),
    ("Input: [ { [", "input: [{["),
    ("“What's 3 – 1?”", "What’s 3 - 1"),
    ("Sort: syndrome, therefrom; oven.", "sort syndrome therefrom\noven"),
    ("Is it 12:30, or 1.5 hours later?", "is it 12 : 30 or 1.5 hours later"),
    ("Stop! Who won?", "stop who won"),
    ("Is 2!=3?", "Is 2 != 3"),
    ("It rained...5 days?", "It rained... 5 days"),
    ("f’(2)", "f'( 2 )"),
    ("The 'old' house (red)", "the old house (red)"),
    ("Which?\nOptions:\n(A) a ball\n(B) a box", "Which?\nOptions:\n(A) a box\n(B) a ball"),
    ("Which? (A) a ball (B) a box", "Which?\n(A) A box.\n(B) A ball."),
    ("Which?\nA. a ball\nB. a box\nC. a ruler", "Which?\nA) a ruler\nB) a ball\nC) a box"),
]

DIFFERENT = [
    ("2 - 2", "2 + 2"),
    ("2 * 3", "2 ** 3"),
    ("not ( True and False )", "( not True ) and False"),
    ("Input: [ { [", "Input: { [ ["),
    ("( ) )", "( ( )"),
    ("1.5 + 2", "15 + 2"),
    ("Sort: 1 23", "Sort: 12 3"),
    ("Is 3:4 more?", "Is 3 4 more?"),
    ("5!", "5"),
    ("x² of 3", "x2 of 3"),
    ("a < b", "a > b"),
    ("Sort: ab c", "Sort: a bc"),
    ("?!", "!?"),
    ("Is 2 != 3 true?", "Is 2 = 3 true?"),
    ("!True and False is", "True and False is"),
    ("a && !(b)", "a && (b)"),
    ("!!a", "!a"),
    ("What is .5 + 1?", "What is 5 + 1?"),
    ("Is -.25 less?", "Is -25 less?"),
    ("f'(2) for f(x)=x^2", "f(2) for f(x)=x^2"),
    ("f''(2)", "f'(2)"),
    ("Which?\n(A) a ball\n(B) a box", "Which?\n(A) a ball\n(B) a boxer"),
    ("Which?\n(A) a ball\n(B) a box", "Which?\n(A) a ball\n(B) a box\n(C) a ruler"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_carries_no_meaning_makes_no_other_question(one, other):
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_signs_that_carry_meaning_make_another_question(one, other):
    assert comparable(one) != comparable(other)


@given(st.lists(st.sampled_from(["True", "False", "not", "and", "or", "(", ")", "3", "-", "+", "*"]), max_size=12))
def test_white_space_between_signs_never_counts_and_everything_else_does(words):
    spaced = " ".join(words)
    tight = spaced
    for sign in "()-+*":
        tight = tight.replace(f" {sign}", sign).replace(f"{sign} ", sign)
    assert comparable(spaced) == comparable(tight)
    assert comparable(spaced).split() == [word.casefold() for word in words]


@given(st.text(max_size=60))
def test_equal_texts_have_equal_forms_and_no_text_has_none(text):
    assert comparable(text) == comparable(f"  {text.upper().lower()} ") or text.upper().lower() != text.lower()
    assert comparable(text).strip() or not strictly(text)


def test_a_text_of_signs_that_carry_no_meaning_is_not_nothing():
    """A task about punctuation: these are three questions, and none is empty."""
    assert len({comparable(text) for text in ("`", "\u201e", "?!", "")}) == 4


@given(st.permutations(["a ball", "a box", "a ruler", "two rulers", "nothing"]))
def test_options_in_any_order(options):
    lines = "\n".join(f"({letter}) {option}" for letter, option in zip("ABCDE", options, strict=True))
    text = f"Which is round?\nOptions:\n{lines}"
    assert split_options(text) == ("Which is round?\nOptions:", dict(zip("ABCDE", options, strict=True)))
    shuffled = random.Random(1).sample(options, 5)
    other = "Which is round?\nOptions:\n" + "\n".join(
        f"({letter}) {option}" for letter, option in zip("ABCDE", shuffled, strict=True)
    )
    assert comparable(text) == comparable(other)


@pytest.mark.parametrize(
    "text", ["Is (A) right?", "Which?\n(B) x\n(C) y", "Plan A. Then plan B. Which?", "", "(A) (C)"]
)
def test_no_options(text):
    assert split_options(text) == (text, {})


def test_what_stands_behind_the_options_belongs_to_the_question():
    assert split_options("Which?\n(A) x\n(B) y\nGive the letter.") == (
        "Which?\nGive the letter.",
        {"A": "x", "B": "y"},
    )


@pytest.mark.parametrize(
    ("targets", "kind", "same"),
    [
        (("(A)", "(B)"), "choice", True),
        (("(A)", "(A)"), "choice", False),
        (("yes", "no"), "text", False),
        (("yes", "Yes."), "text", True),
    ],
)
def test_answers_decide_where_texts_differ_in_signs_or_order(targets, kind, same):
    texts = ("Which?\n(A) a ball\n(B) a box", "Which?\n(A) A box.\n(B) A ball.")
    one, other = (Question(t, "t", text, t) for text, t in zip(texts, targets, strict=True))
    assert is_same(one, other, kind) is same


@pytest.mark.parametrize(
    ("question", "target", "kind", "right"),
    [
        ("Which?\n(A) x\n(B) y", "(B)", "choice", True),
        ("Which?\n(A) x\n(B) y", "(C)", "choice", False),
        ("Which? A ball, or a box?", "(C)", "choice", True),
        ("Which?\n(A) x\n(B) y", "C", "text", True),
    ],
)
def test_target_among_the_options(question, target, kind, right):
    assert targets_an_option(question, target, kind) is right
