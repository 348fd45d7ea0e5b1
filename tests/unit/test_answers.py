import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arte_plugin.language.answer_tags import find_tags
from arte_plugin.language.answers import extract, judge, normalise, same, tagged

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
        # Brackets are an answer, also behind words that would speak of an empty tag.
        ("So the closing brackets are as follows: <ans>] } )</ans>", "] } )", "text", "correct"),
        ("It should be completed with <ans>] }</ans>", "] }", "text", "correct"),
        ("I put it between <ans> ... </ans>", "] }", "text", "unparsed"),
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


FORMS = Path(__file__).parents[2] / "benchmarks/answers/forms.jsonl"


@pytest.mark.parametrize("row", [json.loads(line) for line in FORMS.read_text().splitlines()], ids=str)
def test_mentions_and_other_forms_are_read_as_a_reader_would(row):
    assert extract(row["response"], row["kind"]) == row["label"]


#: What models say of the tags without an answer in them.
MENTIONS = [
    "I put the final answer between <ans> and </ans>.",
    "Put it inside the `<ans>` and `</ans>` tags.",
    "Format: <ans>answer</ans>",
    "I answer in the form <ans>(X)</ans>, as asked.",
    "It goes into the tags like this: <ans>...</ans>",
    "The format is <ans>…</ans>.",
    "Write a letter, e.g. <ans>(A)</ans>.",
]


@given(st.text(alphabet="bcdfg .,\n"), st.sampled_from(MENTIONS), st.sampled_from(KINDS))
def test_a_mention_of_the_tags_is_no_answer(before, mention, kind):
    assert extract(f"{before} {mention}", kind) is None
    # Nor may it be trained on.
    assert tagged(f"{before} {mention}", kind) is None
    assert tagged(mention.rpartition("</ans>")[0] + "</ans>", kind) is None


@given(
    st.lists(st.sampled_from(MENTIONS)),
    st.sampled_from([("choice", "(B)"), ("boolean", "True"), ("number", "-7"), ("text", "pear"), ("text", "and")]),
)
def test_an_answer_behind_mentions_is_read(mentions, given_answer):
    kind, answer = given_answer
    response = " ".join([*mentions, f"So it must be <ans>{answer}</ans>"])
    assert extract(response, kind) == answer == tagged(response, kind)


def test_other_tags_are_read_but_not_trained_on():
    assert extract("It is <answer>7</answer>", "number") == "7"
    assert tagged("It is <answer>7</answer>", "number") is None and tagged("It is <ans>7</ans>", "number") == "7"


@given(st.lists(st.sampled_from(["<ans>", "</ans>", "<answer>", "</ ans>", "a", " ", "\n", "<", ">"]), max_size=30))
def test_tags_lie_behind_one_another(parts):
    text = "".join(parts)
    ends = 0
    for tag in find_tags(text):
        assert ends <= tag.start < tag.inside <= tag.inside_end <= tag.end <= len(text)
        assert "ans" not in text[tag.inside : tag.inside_end].replace("</", "<")
        ends = tag.end


@given(st.lists(st.text(alphabet="abcxyz", min_size=1), min_size=1))
def test_a_list_of_words_is_the_same_with_commas(words):
    assert same(" ".join(words), ", ".join(words), "text") and same(",".join(words), " ".join(words), "text")
    assert not same(" ".join(words), " ".join([*words, "more"]), "text")


def test_a_comma_in_a_number_is_no_list():
    assert not same("1,000", "1 000", "text") and same("1, 2", "1 2", "text")


@given(st.integers(min_value=1, max_value=10**12))
def test_every_sign_of_less_than_nothing_is_read(number):
    for written in (f"-{number}", f"−{number}", f"–{number}", f"-({number})", f"− ({number:,})", f"–${number}"):
        assert extract(f"<ans>{written}</ans>", "number") == f"-{number}"


@pytest.mark.parametrize(
    ("kind", "repeated"),
    [
        *[
            ("text", part)
            for part in ("<ans>", "</ans>", "< ans >", "<ans>x\n", " between <ans> and", "answer is ", "a.")
        ],
        *[("number", part) for part in ("<ans>3", "answer: ", "\\boxed{", "1", "1,", "1 ", "-", " ")],
        *[("choice", part) for part in ("<ans></ans>", "answer", "\n", ":", "A ", "(A) ", "such as ", "####")],
        *[("boolean", part) for part in ("<ans>not ", "<", '"')],
    ],
)
def test_reading_takes_time_linear_in_the_length(repeated, kind):
    """Of forty thousand, where the square of it would take minutes, and of all of these hours."""
    many = repeated * 40_000
    for response in (many, f"The answer is {many}!<ans>"):
        extract(response, kind)
    tagged(f"<ans>{many}</ans>", kind)


@pytest.mark.parametrize(
    ("kind", "inside", "answer"),
    [
        ("boolean", "isn't true", None),
        ("boolean", "It is never true", None),
        ("boolean", "It cannot be true", None),
        ("boolean", "Can’t be yes", None),
        ("boolean", "not always true", None),
        ("boolean", "no one knows", None),
        ("boolean", "No, it is never so", "No"),
        ("boolean", "No", "No"),
        ("number", "minus 5", "-5"),
        ("number", "negative $5", "-5"),
        ("number", "10 minus 5", None),
        ("number", "$5 million", None),
        ("number", "sqrt(5)", None),
        ("number", "√16", None),
        ("number", r"\frac{4}{4}", None),
        ("number", "5²", None),
        ("number", "x-5", None),
        ("number", "-5", "-5"),
        ("number", "isn't 5", None),
        ("choice", "person(s)", None),
        ("choice", "answer(B)", "(B)"),
        ("choice", "(s)", "(S)"),
        ("choice", "It can't be (A)", None),
    ],
)
def test_an_answer_is_neither_its_opposite_nor_a_part_of_itself(kind, inside, answer):
    assert extract(f"<ans>{inside}</ans>", kind) == answer


def test_an_answer_that_is_no_longer_one():
    assert extract("The answer is no longer clear.", "boolean") is None
