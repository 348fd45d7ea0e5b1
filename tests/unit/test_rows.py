from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arte_plugin.errors import DataError
from arte_plugin.rows import Order, Question, TailoredExample, read_rows, wilson, write_rows
from arte_plugin.stages.lm_eval_files import read_questions

SEEDS = (Question("1", "sums", "1 + 1?", "2"), Question("2", "sums", "1 + 2?", "3"))
# What a tokenizer can give back: any text that UTF-8 can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@example("one line\u2028another\x85a third\r\n\x1c")
@given(TEXT)
def test_rows_come_back_as_they_were_written(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [Question("1", "sums", text, "4"), Question("2", "sums", "2 + 3", text)]
    write_rows(path, rows)
    assert read_rows(path, Question) == rows


def test_line_ends_inside_a_question_are_no_line_ends_for_lm_eval(tmp_path):
    rows = [Question("1", "sums", "2\u2028+\x852", "4")]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_questions(tmp_path / "rows.jsonl")["test"]["question"] == [rows[0].question]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question_id": "1"}\n', "line 1: no question, target, task"),
        ('\n{"question_id": \n', "line 2: not JSON"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_rows(path, Question)


def test_wilson_interval():
    # Newcombe (1998), table I: 15 of 148 has the Wilson interval 0.0624 to 0.1605.
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    assert (wilson(0, 20)[0], wilson(20, 20)[1]) == (0.0, 1.0)


def test_a_field_that_came_later_is_written_only_where_it_says_something(tmp_path):
    path = tmp_path / "rows.jsonl"
    plain = TailoredExample("sums", "1 + 1?", "2", "Two. <ans>2</ans>", "2", "Solve 1 + 1?")
    rows = [plain, replace(plain, origin="abc")]
    write_rows(path, rows)
    assert ["origin" in line for line in path.read_text().splitlines()] == [False, True]
    assert read_rows(path, TailoredExample) == rows


def test_an_order_goes_by_all_that_is_in_it():
    def order(*turn, **other):
        held = {"notes": ("Carry the one.",), "seeds": SEEDS, **other}
        return Order("", "sums", "new_question", **held).named(*turn).order_id

    assert order() == order()
    others = [order(notes=()), order(seeds=SEEDS[:1]), order(parent=SEEDS[0]), order(wanted=2), order("1")]
    assert len({order(), *others}) == 6


def test_what_an_operator_makes_of_an_example_is_found_beside_it():
    example = TailoredExample("sums", "1 + 1?", "2", "Two. <ans>2</ans>", "2", "Solve 1 + 1?")
    assert example.rewritten_as("reflect") == replace(example, origin="x").rewritten_as("reflect")
    assert example.rewritten_as("reflect") != replace(example, rationale="2").rewritten_as("reflect")
    assert example.rewritten_as("reflect").startswith("reflect/")
