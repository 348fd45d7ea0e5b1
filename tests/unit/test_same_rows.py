"""`benchmarks/same_rows`: rows of two runs are the same to the byte, or the files that differ are named."""

import json
from pathlib import Path

import pytest

from benchmarks.same_rows.hashes import as_text, from_text, hashes, main, without_times

FILES = sorted((Path(__file__).parents[2] / "benchmarks/same_rows").glob("*.txt"))


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it: rows, results and what is neither."""
    folder = tmp_path / "out"
    for path, text in {
        "arte/01-elicit/drafts.jsonl": '{"draft_id": "a"}\n',
        "arte/04-pair/held_out.jsonl": "",
        "arte/08-evaluate/results.json": json.dumps({"results": [{"n": 3, "seconds": 1.5}], "run_time": 2}),
        "arte/manifest.json": '{"seconds": 1}',
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_rows_and_results_are_hashed_and_nothing_else(run):
    assert list(hashes(run)) == [
        "arte/01-elicit/drafts.jsonl", "arte/04-pair/held_out.jsonl", "arte/08-evaluate/results.json",
    ]  # fmt: skip
    assert from_text("# from a run\n" + as_text(hashes(run))) == hashes(run)


def test_times_and_the_order_of_keys_change_no_hash_and_figures_do(run):
    file, before = run / "arte/08-evaluate/results.json", hashes(run)
    file.write_text('{"run_time": 9, "results": [{"seconds": 7, "n": 3}]}')
    assert hashes(run) == before
    file.write_text('{"run_time": 9, "results": [{"seconds": 7, "n": 4}]}')
    assert hashes(run) != before


def test_where_a_model_without_a_name_lies_changes_no_hash(run, tmp_path, capsys):
    drafts, lines = run / "arte/01-elicit/drafts.jsonl", tmp_path / "before.txt"
    drafts.write_text('{"student": "/here/tests/models/taught"}\n')
    main([str(run), "--place", "/here"])
    lines.write_text(capsys.readouterr().out)
    drafts.write_text('{"student": "/there/tests/models/taught"}\n')
    assert main([str(run), "--place", "/there", "--like", str(lines)]) == 0
    assert main([str(run), "--like", str(lines)]) == 1
    drafts.write_text('{"student": "/there/tests/models/untaught"}\n')
    assert main([str(run), "--place", "/there", "--like", str(lines)]) == 1


def test_a_word_within_another_is_no_time():
    assert without_times({"candidates": 1, "overtime": 2, "peak": [{"minutes": 3, "n": 4}]}) == {
        "candidates": 1, "overtime": 2, "peak": [{"n": 4}],
    }  # fmt: skip


def test_what_differs_is_named(run, tmp_path, capsys):
    lines = tmp_path / "before.txt"
    lines.write_text(as_text(hashes(run)))
    assert main([str(run), "--like", str(lines)]) == 0
    assert capsys.readouterr().out == "all 3 files are the same\n"
    # A byte of one, one gone, one that was not there.
    (run / "arte/01-elicit/drafts.jsonl").write_text('{"draft_id":  "a"}\n')
    (run / "arte/04-pair/held_out.jsonl").rename(run / "arte/04-pair/pairs.jsonl")
    assert main([str(run), "--like", str(lines)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "differs  arte/01-elicit/drafts.jsonl",
        "gone     arte/04-pair/held_out.jsonl",
        "new      arte/04-pair/pairs.jsonl",
        "3 of 3 files differ",
    ]


def test_a_folder_without_rows_is_not_taken_for_the_same(tmp_path, capsys):
    (tmp_path / "before.txt").write_text("")
    assert main([str(tmp_path), "--like", str(tmp_path / "before.txt")]) == 2
    assert "has no rows" in capsys.readouterr().err


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_hashes_that_lie_here_can_be_read(file):
    text = file.read_text()
    kept = from_text(text)
    assert text.startswith("# ") and any(path.endswith("results.json") for path in kept)
    assert {len(digest) for digest in kept.values()} == {16}
