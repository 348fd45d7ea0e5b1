"""Known answers in every form in which models write them."""

import json

import pytest

import check_targets
from answer_forms import GIVEN, NOT_GIVEN, NOT_GIVEN_UNLESS_TEXT, forms
from arte_plugin.language.answers import extract, judge

OPTIONS = "Which of these grows on a tree?\nOptions:\n(A) I think (not sure) a pear\n(B) neither A nor C\n(I) a saw"
#: Answer type, target, a wrong answer, question.
VALUES = [
    ("choice", "(A)", "(B)", "Which of these is a fruit: pear or saw?"),
    ("choice", "(I)", "(A)", OPTIONS),
    ("choice", "(A)", "(I)", OPTIONS),
    ("boolean", "True", "False", "not ( True ) and ( True ) is"),
    ("boolean", "No", "Yes", "Is 7 an even number? Answer Yes or No."),
    ("number", "1234.5", "7", "How much are 1,234.50 dollars?"),
    ("number", "-3", "3", "What is 4 - 7?"),
    ("number", "1234567", "1", "How many are there?"),
    ("number", "0", "10", "How many are left of 5 if 5 are gone?"),
    ("text", "pear", "apple", "What grows on a pear tree?"),
    ("text", "red apple", "pear", "What did Eve eat, a pear or a red apple?"),
    ("text", "] }", ")", "Close the brackets: { ["),
    ("text", "> >", "]", "Close the brackets: < <"),
    ("text", "x < 3", "x", "Simplify x + 1 < 4."),
    ("text", "don't", "can't", "Put `do not` into one word."),
]
SHAPES = [*GIVEN, *NOT_GIVEN, *NOT_GIVEN_UNLESS_TEXT, "nothing else", "nothing else, then another question"]


@pytest.mark.parametrize(("kind", "target", "other", "question"), VALUES)
@pytest.mark.parametrize("shape", SHAPES)
def test_form_is_read(kind, target, other, question, shape):
    made = [form for form in forms(kind, target, other, question) if form.shape == shape]
    assert made or (kind == "text" and shape in NOT_GIVEN_UNLESS_TEXT)
    for form in made:
        assert extract(form.response, kind) == form.read, form
        assert judge(form.response, target, kind)[1] == ("unparsed" if form.read is None else "correct"), form


@pytest.mark.parametrize(
    ("kind", "target", "other", "written"),
    [
        (
            "choice",
            "(A)",
            "(B)",
            ["(A)", "A", "A.", "option A", "The answer is (A)", "<ans>(A)</ans>", "<ans>A)</ans>"],
        ),
        ("boolean", "True", "False", ["True.", "true", "Yes", "<ans>TRUE</ans>", "Answer: True"]),
        ("number", "1234.5", "7", ["$1,234.50", "1234.5", "<ans>1,234.5</ans>", "The answer is 1234.50"]),
        ("text", "pear", "apple", ['"pear".', "<ans>Pear</ans>", "The answer is **pear**."]),
    ],
)
def test_the_forms_are_those_that_models_write(kind, target, other, written):
    readings = {form.response: form.read for form in forms(kind, target, other, "")}
    for response in written:
        assert readings[response] is not None


@pytest.mark.parametrize(
    ("response", "read"),
    [
        ("First I thought <ans>(B)</ans>. But it is <ans>(A)</ans>", "(A)"),
        ("<ans>(A)</ans>\n\nQuestion: And this one?\nAnswer: <ans>(B)</ans>", "(A)"),
        ("I don't know.\n\nQuestion: And this one?\nAnswer: <ans>(A)</ans>", None),
        ("The answer is not (A).", None),
        ("<ans>(A) or (B)</ans>", None),
    ],
)
def test_forms_say_what_a_reader_would(response, read):
    """The forms decide what counts as right, so some of them are written out here."""
    readings = {form.response: form.read for form in forms("choice", "(A)", "(B)", "")}
    assert readings[response] == read == extract(response, "choice")


def test_a_target_that_is_no_answer_has_no_forms():
    with pytest.raises(ValueError, match="'maybe' is no boolean answer"):
        next(forms("boolean", "maybe", "True", ""))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two files for which there are presets, and one for which there is none."""
    (tmp_path / "data/bbh").mkdir(parents=True)
    (tmp_path / "data/gsm8k").mkdir()
    rows = [{"input": f"Is {i} even?", "target": "No" if i % 2 else "Yes"} for i in range(4)]
    (tmp_path / "data/bbh/navigate.json").write_text(json.dumps({"examples": rows}))
    (tmp_path / "data/bbh/notes.json").write_text("[]")
    sums = [{"question": f"What is {i} + 1?", "answer": f"One more.\n#### {i + 1}"} for i in range(3)]
    (tmp_path / "data/gsm8k/test.jsonl").write_text("\n".join(map(json.dumps, sums)))
    monkeypatch.setattr(check_targets, "COUNTS", tmp_path / "targets.json")
    return tmp_path


def test_targets_of_files_are_checked(data, capsys):
    assert check_targets.main(["--data", str(data / "data")]) == 0
    counts = json.loads((data / "targets.json").read_text())
    assert [(row["file"], row["answer"], row["questions"], row["mismatches"]) for row in counts] == [
        ("bbh/navigate.json", "boolean", 4, 0),
        ("gsm8k/test.jsonl", "number", 3, 0),
    ]
    assert all(row["forms"] > 100 * row["questions"] for row in counts)
    assert "notes.json: left out" in capsys.readouterr().out


def test_a_mismatch_is_counted_and_shown_on_demand(data, capsys, monkeypatch):
    def deaf(response, target, kind):
        return ("", "unparsed") if response.startswith("Answer:") else judge(response, target, kind)

    monkeypatch.setattr(check_targets, "judge", deaf)
    assert check_targets.main(["--data", str(data / "data"), "--show", "1"]) == 1
    boolean, number = json.loads((data / "targets.json").read_text())
    assert boolean["mismatches"] == 4 * 6 and number["mismatches"] > 0
    assert capsys.readouterr().out.count("was read as ('', 'unparsed'), not") == 2
