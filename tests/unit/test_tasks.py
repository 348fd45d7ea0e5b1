import json

import pytest

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import load_task, load_tasks
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.rows import content_id


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


#: Three questions of the test's own, in each shape in which a data set may hold options and answers.
STONES = [("Which is heaviest?", ["pebble", "boulder", "grain"], 1), ("Which is blue?", ["grass", "snow", "sky"], 2)]
STONES.append(("Which flies?", ["kite", "anvil", "brick"], 0))


def labelled_rows():
    names = ("ABC", "123", "ABC")
    return [
        {"question": text, "choices": {"text": options, "label": list(labels)}, "answer": labels[right]}
        for (text, options, right), labels in zip(STONES, names, strict=True)
    ]


def listed_rows():
    return [{"question": text, "choices": options, "answer": right} for text, options, right in STONES]


def column_rows(answer=str):
    return [
        {"question": text, **dict(zip("abc", options, strict=True)), "answer": answer(right)}
        for text, options, right in STONES
    ]


def choice_task(questions, **more):
    return task(questions, answer="choice", seed_questions=1, validation_questions=1, **more)


def by_text(made):
    return {q.question: q.target for split in made.splits().values() for q in split}


WITH_LETTERS = {
    "Which is heaviest?\nOptions:\n(A) pebble\n(B) boulder\n(C) grain": "(B)",
    "Which is blue?\nOptions:\n(A) grass\n(B) snow\n(C) sky": "(C)",
    "Which flies?\nOptions:\n(A) kite\n(B) anvil\n(C) brick": "(A)",
}


def write(tmp_path, name, rows):
    import csv

    import pyarrow
    import pyarrow.parquet

    path = tmp_path / name
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("rows", [labelled_rows(), listed_rows()], ids=["labelled", "listed"])
def test_options_in_one_column(tmp_path, ending, rows):
    made = load_task(choice_task({"path": write(tmp_path, f"q.{ending}", rows), "options": "choices"}), seed=1)
    assert by_text(made) == WITH_LETTERS


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("answer", [int, "ABC".__getitem__, "abc".__getitem__, lambda i: f"({'ABC'[i]})"])
def test_options_in_columns_of_their_own(tmp_path, ending, answer):
    path = write(tmp_path, f"q.{ending}", column_rows(answer))
    assert by_text(load_task(choice_task({"path": path, "options": ["a", "b", "c"]}), seed=1)) == WITH_LETTERS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "D"}, "row 4: the answer 'D' is neither a place from 0 to 2 nor a letter from A to C"),
        ({"answer": 3}, "row 4: the answer '3' is neither"),
        ({"answer": -1}, "row 4: the answer '-1' is neither"),
        ({"answer": ""}, "row 4: the answer '' is neither"),
        ({"answer": "boulder"}, "row 4: the answer 'boulder' is neither"),
        ({"choices": ["pebble"]}, "row 4: it has 1 options"),
        ({"choices": ["pebble", ""]}, r"row 4: option \(B\) is empty"),
        ({"choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answer": "0"}, "not one of the labels 1, 2"),
        ({"choices": {"text": ["x", "y"], "label": ["1"]}, "answer": "1"}, "2 options, but 1 labels"),
    ],
)
def test_row_whose_options_and_answer_do_not_fit_is_named_or_dropped(tmp_path, change, said):
    bad = {"question": "Which is round?", "choices": ["ball", "box", "ruler"], "answer": 0, **change}
    questions = {"path": write(tmp_path, "q.jsonl", [*listed_rows(), bad]), "options": "choices"}
    with pytest.raises(DataError, match=f"{said}.*`bad_rows: drop`"):
        load_task(choice_task(questions), seed=1)
    made = load_task(choice_task({**questions, "bad_rows": "drop"}), seed=1)
    assert (by_text(made), made.bad_rows) == (WITH_LETTERS, 1)


@pytest.mark.parametrize("choices", ["ball, box", {"texts": ["ball", "box"]}, {"text": ["x", "y"], "label": "AB"}, 7])
def test_column_without_a_list_of_options(tmp_path, choices):
    path = write(tmp_path, "q.jsonl", [{"question": "Which?", "choices": choices, "answer": "A"}])
    with pytest.raises(ConfigError, match=r"row 1: column 'choices' holds neither .* name these: `options: \["):
        load_task(choice_task({"path": path, "options": "choices"}), seed=1)


@pytest.mark.parametrize("options", ["choices", ["a", "d"]])
def test_missing_column_of_options(tmp_path, options):
    path = write(tmp_path, "q.csv", column_rows())
    with pytest.raises(ConfigError, match=r"row 1 has no column '(choices|d)'. It has: question, a, b, c, answer"):
        load_task(choice_task({"path": path, "options": options}), seed=1)


def test_options_need_choice():
    with pytest.raises(ValueError, match="`answer: choice`"):
        task({"path": "q.csv", "options": ["a", "b"]}, answer="boolean")


SUMS = [
    {"question": f"What is {i} and 2?", "answer": f"Put [[{i}+2]] them\ntogether: {i + 2}.\n#### {i + 2},000"}
    for i in range(4)
]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_answer_after_parts_answer_and_rationale(tmp_path, ending):
    source = {"path": write(tmp_path, f"q.{ending}", SUMS), "answer_after": "####", "rationale": "answer"}
    more = {"answer": "number", "seed_questions": 1, "validation_questions": 1}
    made = load_task(task(source, **more), seed=1)
    first = next(q for split in made.splits().values() for q in split if q.question.startswith("What is 1"))
    assert first.target == "3,000"
    assert first.rationale == "Put [[1+2]] them\ntogether: 3.\nThe answer is <ans>3,000</ans>"
    made = load_task(task({**source, "rationale_without": ["[[", "]]"]}, **more), seed=1)
    assert all("[" not in q.rationale and q.rationale.startswith("Put  them") for q in made.seeds)


def test_answer_without_the_mark_is_named(tmp_path):
    path = write(tmp_path, "q.jsonl", [*SUMS, {"question": "What is 9 and 2?", "answer": "11"}])
    with pytest.raises(DataError, match="row 5: there is no '####' in the answer '11'"):
        load_task(task({"path": path, "answer_after": "####"}, answer="number"), seed=1)


def test_a_rationale_that_has_its_answer_tagged_stays_as_it_is(tmp_path):
    rows = [{"question": f"q{i}", "answer": "x", "why": f"Because {i}. <ans>x</ans>"} for i in range(4)]
    source = {"path": write(tmp_path, "q.jsonl", rows), "rationale": "why"}
    made = load_task(task(source, answer="text", seed_questions=1, validation_questions=1), seed=1)
    assert {q.rationale for split in made.splits().values() for q in split} == {row["why"] for row in rows}


def test_dropped_rows_are_counted_and_told_when_too_few_are_left(source):
    bad = [{"question": "Is it?", "answer": "maybe"}, {"question": "", "answer": "No"}, {"question": "Is?"}]
    bad[2]["answer"] = None
    contradiction = {"question": "Is 2 even?", "answer": "No"}
    rows_and_bad = {**source([*rows(12), *bad, contradiction, *rows(1)]), "bad_rows": "drop"}
    made = load_task(task(rows_and_bad), seed=1)
    assert (made.bad_rows, made.duplicates) == (4, 1)
    assert sum(map(len, made.splits().values())) == 12
    with pytest.raises(DataError, match=r"has 12 \(1 duplicate and 4 unusable rows left out\)"):
        load_task(task(rows_and_bad, test_questions=50), seed=1)


def test_held_out_questions_are_the_last_of_the_validation_set(source):
    plain = load_task(task(source(rows(40)), validation_questions=20), seed=1)
    apart = load_task(task(source(rows(40)), validation_questions=20), seed=1, held_out=0.25)
    assert plain.splits().keys() == {"seed", "validation", "test"}
    assert [*apart.validation, *apart.held_out] == plain.validation
    assert len(apart.held_out) == len(apart.splits()["held_out"]) == 5
    assert (apart.seeds, apart.test) == (plain.seeds, plain.test)
    with pytest.raises(DataError, match="of 1 `validation_questions` 1 are held out"):
        load_task(task(source(rows(40)), validation_questions=1), seed=1, held_out=0.1)


def test_overlap_but_for_spaces_and_sentence_signs_is_refused(source):
    test = source([*rows(2, 100), {"question": "'Is 3 even' ?", "answer": "No"}], "test.jsonl")
    with pytest.raises(DataError, match=r"overlap, .* Both hold: \"'Is 3 even' \?\""):
        load_task(task(source(rows(8)), test_questions=test), seed=1)


def test_the_same_question_with_its_options_in_another_order_is_a_duplicate(tmp_path):
    first = {"question": "Which is round?", "choices": ["ball", "box"], "answer": "A"}
    others = [{"question": f"Which is round? Look at it {n} times.", "choices": ["ball", "box"], "answer": "A"}
              for n in range(9)]  # fmt: skip
    turned = {"question": "Which is round?", "choices": ["box", "ball"], "answer": "B"}
    another = {"question": "Which is round?", "choices": ["box", "ball"], "answer": "A"}
    path = write(tmp_path, "q.jsonl", [first, *others, turned])
    assert load_task(choice_task({"path": path, "options": "choices"}), seed=1).duplicates == 1
    # Another option is the right one: not the same question after all.
    path = write(tmp_path, "q.jsonl", [first, *others, another])
    assert load_task(choice_task({"path": path, "options": "choices"}), seed=1).duplicates == 0


def test_signs_that_decide_the_answer_make_no_duplicate(source):
    twins = [{"question": "eats, shoots", "answer": "two"}, {"question": "eats shoots", "answer": "one"}]
    more = [{"question": f"word {n}", "answer": "one"} for n in range(10)]
    assert load_task(task(source([*twins, *more]), answer="text"), seed=1).duplicates == 0


def test_ids_of_questions_stay_as_they_were(source):
    """Results and answers that are known go by them."""
    made = load_task(task(source([{"question": "Is  1 Even?", "answer": "No"}, *rows(9, 2)])), seed=1)
    ids = {q.question: q.question_id for split in made.splits().values() for q in split}
    assert ids["Is  1 Even?"] == content_id("even", "is 1 even?")


def test_tasks_of_a_run_are_held_against_one_another(source):
    one = task(source(rows(20)))
    third = task(source(rows(20, 50), "third.jsonl")).model_copy(update={"name": "third"})
    first, second = load_tasks([one, third], seed=1)
    assert first.taken() == second.taken() != {}
    assert len(first.taken()) == 40
    with pytest.raises(
        DataError, match=r"Tasks even and again: the \w+ questions of even and the \w+ questions of again"
    ):
        load_tasks([one, one.model_copy(update={"name": "again"})], seed=1)


def test_two_tasks_may_share_splits_and_ask_different_things(source, tmp_path):
    splits = {
        f"{name}_questions": source(rows(4, start), f"{name}.jsonl")
        for name, start in (("seed", 0), ("validation", 4), ("test", 8))
    }
    one = task(None, **splits)
    assert len(load_tasks([one, one.model_copy(update={"name": "again"})], seed=1)) == 2
    # The texts of seeds as test questions, with other answers: nothing is given away.
    asks = [{"question": row["question"], "answer": "number"} for row in rows(12)]
    other = task(source(asks, "asks.jsonl"), answer="text").model_copy(update={"name": "what"})
    assert len(load_tasks([one, other], seed=1)) == 2
