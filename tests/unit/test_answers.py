import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arte_plugin.answers import extract, judge, normalise, same, tagged

KINDS = ("choice", "boolean", "number", "text")


@pytest.mark.parametrize(
    ("response", "kind", "answer"),
    [
        ("So it is <ans>(A)</ans>", "choice", "(A)"),
        ("<ans>A</ans>", "choice", "(A)"),
        ("<ans>A.</ans>", "choice", "(A)"),
        ("<ans>b)</ans>", "choice", "(B)"),
        ("<ans>option C</ans>", "choice", "(C)"),
        ("<ans>(A) The patient had a skin condition</ans>", "choice", "(A)"),
        ("The answer is (B).", "choice", "(B)"),
        ("<ans>(A) or (B)</ans>", "choice", None),
        ("<ans>True.</ans>", "boolean", "True"),
        ("<ANS> yes </ANS>", "boolean", "Yes"),
        ("<ans>**No**</ans>", "boolean", "No"),
        ("<ans>True or False</ans>", "boolean", None),
        ("<ans>$1,234.50</ans>", "number", "1234.5"),
        ("<ans>-3</ans>", "number", "-3"),
        ("<ans>24.</ans>", "number", "24"),
        ("<ans>18 dollars</ans>", "number", "18"),
        ("<ans>3.0</ans>", "number", "3"),
        ("<ans>3 or 4</ans>", "number", None),
        ("Answer: 42", "number", "42"),
        ("<ans> Apple  pear. </ans>", "text", "apple pear"),
        ('<ans>"apple"</ans>', "text", "apple"),
        ("<ans>] }</ans>", "text", "] }"),
        # Several tags: the last one that can be read.
        ("Between <ans> and </ans> goes <ans>False</ans>. No: <ans>True</ans>", "boolean", "True"),
        ("<ans>True</ans> I mean <ans>?</ans>", "boolean", "True"),
        # Never closed, as it comes from a library that cuts the stop string off.
        ("So the answer is <ans>False", "boolean", "False"),
        ("<ans>(A)\nmore", "choice", "(A)"),
        # What follows a restated question belongs to that.
        ("<ans>True</ans>\n\nQuestion: not True is\nAnswer: <ans>False</ans>", "boolean", "True"),
        ("I don't know.\nQuestion: x\nAnswer: <ans>False</ans>", "boolean", None),
        # Nothing but the answer.
        ("False.\n\nQuestion:", "boolean", "False"),
        (" (B)", "choice", "(B)"),
        ("42", "number", "42"),
        ("pear", "text", "pear"),
        ("<ans>", "text", None),
        ("The answer is not True.", "boolean", None),
        ("<ans>not False</ans>", "boolean", None),
        ("<ans></ans>", "text", None),
        ("It is true.", "boolean", None),
        ("", "text", None),
        # Statements: the last of those that follow one another, none where they go back and forth.
        ("The answer is 4. I mean, the answer is 5.", "number", "5"),
        ("This answer is the right one: not (C). The correct answer is (A) pear.", "choice", "(A)"),
        ("The answer is (A).\nThe answer is (A).\nThe answer is (B).", "choice", "(B)"),
        ("The answer is (A).\nThe answer is (B).\nThe answer is (A).", "choice", None),
        ("The answer is:\n\nThe answer is:\n\n", "text", None),
        ("The answer is:\n\nPear.", "text", "pear"),
        ("The answer is pear. It grows on trees.", "text", "pear"),
        ("The answer is True. No, it is False.", "boolean", None),
        ("The answer is <b>pear</b>", "text", None),
        ("The answer isn't (A)", "choice", None),
        # A sum is no number, but for its result.
        ("The answer is 3 + 4 = 7 pears.", "number", "7"),
        ("<ans>2 + 2</ans>", "number", None),
        ("<ans>2*2</ans>", "number", None),
        ("The answer is 25 +", "number", None),
        ("18 dollars", "number", "18"),
        ("18 dollars and more", "number", None),
        # Letters that are words, and words with letters in them.
        ("The answer is I don't know", "choice", None),
        ("<ans>I</ans>", "choice", "(I)"),
        ("<ans>A or (B)</ans>", "choice", None),
        ("<ans>A. vitamin C</ans>", "choice", "(A)"),
        ("<ans>b) vitamin C</ans>", "choice", "(B)"),
        ("<ans>not option B</ans>", "choice", None),
        ("Option (A)", "choice", "(A)"),
        ("Option (A) or so", "choice", None),
    ],
)
def test_forms(response, kind, answer):
    assert extract(response, kind) == answer


@pytest.mark.parametrize(
    ("response", "target", "kind", "outcome"),
    [
        ("<ans>true</ans>", "True", "boolean", "correct"),
        ("<ans>True</ans>", "Yes", "boolean", "correct"),
        ("<ans>False</ans>", "Yes", "boolean", "wrong"),
        ("<ans>A</ans>", "(A)", "choice", "correct"),
        ("<ans>1,000</ans>", "1000", "number", "correct"),
        ("hm", "1000", "number", "unparsed"),
    ],
)
def test_judge(response, target, kind, outcome):
    assert judge(response, target, kind)[1] == outcome


@pytest.mark.parametrize(
    ("rationale", "answer"),
    [
        ("So <ans>5</ans>", "5"),
        ("First <ans>4</ans>, then <ans>5</ans>", "5"),
        ("The answer is 5. So <ans></ans>", None),
        ("So <ans>5</ans>, I think", None),
        ("The answer is 5", None),
        ("So <ans>5", None),
    ],
)
def test_training_data_ends_in_a_readable_tag(rationale, answer):
    assert tagged(rationale, "number") == answer


def test_an_answer_may_hold_an_angle_bracket():
    assert tagged("So <ans>x < 3</ans>", "text") == extract("So <ans>x < 3</ans>", "text") == "x < 3"


def test_unreadable_answers_are_the_same_as_nothing():
    assert not same("maybe", "maybe", "boolean")


@given(st.text(), st.sampled_from(KINDS))
def test_any_response_can_be_read(response, kind):
    answer = extract(response, kind)
    assert answer is None or answer


@example("'", "text")
@example("1" + 28 * "0", "number")
@given(st.text(alphabet=st.characters(exclude_characters="<>\n"), min_size=1), st.sampled_from(KINDS))
def test_a_tagged_answer_is_what_normalise_makes_of_it(text, kind):
    assert extract(f"Thinking. <ans>{text}</ans>", kind) == normalise(text, kind)
