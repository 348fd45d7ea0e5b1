import json

import pytest

from arte_plugin.args import TaskArgs
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.tasks import load_task


def rows(count, start=0):
    return [{"question": f"Is {i} even?", "answer": "Yes" if i % 2 == 0 else "No"} for i in range(start, start + count)]


@pytest.fixture
def source(tmp_path):
    def write(content, name="questions.jsonl"):
        path = tmp_path / name
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        elif name.endswith(".json"):
            path.write_text(json.dumps(content))
        else:
            path.write_text(content)
        return {"path": str(path)}

    return write


def task(questions=None, **more):
    more = {"seed_questions": 3, "validation_questions": 5, "answer": "boolean", **more}
    return TaskArgs(name="even", description="Say it.", questions=questions, **more)


def test_splits_are_drawn_without_overlap_and_are_the_same_for_a_seed(source):
    made = load_task(task(source(rows(20))), seed=1)
    assert [len(split) for split in made.splits().values()] == [3, 5, 12]
    ids = [question.question_id for split in made.splits().values() for question in split]
    assert len(set(ids)) == 20
    assert load_task(task(source(rows(20))), seed=1) == made
    assert load_task(task(source(rows(20))), seed=2).seeds != made.seeds


def test_test_questions_stay_the_same_when_other_splits_grow(source):
    small = load_task(task(source(rows(20)), test_questions=6), seed=1)
    large = load_task(task(source(rows(20)), test_questions=6, validation_questions=11), seed=1)
    assert small.test == large.test


def test_too_few_questions_says_both_numbers(source):
    with pytest.raises(DataError, match=r"3 seed_questions \+ 5 validation_questions = 8 .* has 7"):
        load_task(task(source(rows(7))), seed=1)


def test_nothing_left_for_the_test_set(source):
    with pytest.raises(DataError, match="`test_questions` is empty"):
        load_task(task(source(rows(8))), seed=1)


def test_overlap_between_sources_shows_the_match(source):
    test = source([*rows(2, 100), {"question": "is 3  EVEN?", "answer": "No"}], "test.jsonl")
    questions = source(rows(8))
    with pytest.raises(DataError, match=r"overlap.*Is 3 even\?|overlap.*is 3  EVEN\?"):
        load_task(task(questions, test_questions=test), seed=1)


def test_duplicates_are_left_out_and_counted(source):
    made = load_task(task(source([*rows(12), *rows(3)])), seed=1)
    assert made.duplicates == 3
    assert sum(map(len, made.splits().values())) == 12


def test_duplicate_with_another_answer_is_refused(source):
    with pytest.raises(DataError, match="twice, with different answers"):
        load_task(task(source([*rows(12), {"question": "Is 2 even?", "answer": "No"}])), seed=1)


def test_wrong_column_names_what_is_there(source):
    questions = {**source(rows(12)), "question": "input"}
    with pytest.raises(ConfigError, match=r"no column 'input'. It has: question, answer"):
        load_task(task(questions), seed=1)


def test_target_that_is_no_answer_of_the_kind_names_the_row(source):
    with pytest.raises(DataError, match=r"row 13: 'maybe' is no boolean answer"):
        load_task(task(source([*rows(12), {"question": "Is it?", "answer": "maybe"}])), seed=1)


@pytest.mark.parametrize("path", ["nowhere.jsonl", "./nowhere", "/nowhere/at/all.csv"])
def test_missing_file(path):
    with pytest.raises(ConfigError, match="there is no file"):
        load_task(task({"path": path}), seed=1)


def test_formats(source, tmp_path):
    import pyarrow
    import pyarrow.parquet

    as_json = source({"canary": "x", "examples": rows(12)}, "bbh.json")
    as_csv = source(
        "question,answer\n" + "".join(f"Is {i} even?,{'Yes' if i % 2 == 0 else 'No'}\n" for i in range(12)), "q.csv"
    )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(12)), tmp_path / "q.parquet")
    loaded = [
        load_task(task(s), seed=1) for s in (source(rows(12)), as_json, as_csv, {"path": str(tmp_path / "q.parquet")})
    ]
    assert all(one.splits() == loaded[0].splits() for one in loaded)


def test_csv_keeps_text_as_it_is(source):
    made = load_task(
        task(source("question,answer\n" + "".join(f"q{i},00{i}\n" for i in range(9)), "q.csv"), answer="text"), seed=1
    )
    assert {q.target for split in made.splits().values() for q in split} == {f"00{i}" for i in range(9)}


@pytest.mark.parametrize("content", ["{not json", '{"a": 1}', "[1, 2]"])
def test_unreadable_json(tmp_path, content):
    (tmp_path / "q.json").write_text(content)
    with pytest.raises(ConfigError):
        load_task(task({"path": str(tmp_path / "q.json")}), seed=1)
