"""Examples of earlier rounds: which file they come from, and that no new question repeats one."""

import pytest

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.same_question import comparable
from arte_plugin.data.tasks import Task
from arte_plugin.errors import DataError
from arte_plugin.rows import Question, TailoredExample, write_rows
from arte_plugin.stages.kept_examples import hashes_of_kept, kept_file, read_kept, with_kept_taken


def _row(question, task="sums"):
    return TailoredExample(task, question, "4", "Four. <ans>4</ans>", "4", "Solve it.")


def test_each_arm_keeps_its_own(tmp_path):
    rows = {"arte": [_row("2 + 2")], "unaligned": [_row("1 + 3")]}
    for arm, of_arm in rows.items():
        write_rows(kept_file(arm, tmp_path), of_arm)
    assert {file.name for file in tmp_path.rglob("*.jsonl")} == {"tailored.jsonl", "unaligned.jsonl"}
    assert read_kept(["arte", "unaligned"], tmp_path) == rows
    before = hashes_of_kept(["arte", "unaligned"], tmp_path)
    write_rows(kept_file("unaligned", tmp_path), [_row("0 + 4")])
    after = hashes_of_kept(["arte", "unaligned"], tmp_path)
    assert before["arte"] == after["arte"] and before["unaligned"] != after["unaligned"]
    with pytest.raises(DataError, match="question_only"):
        read_kept(["question_only"], tmp_path)


def test_what_is_kept_is_taken_in_its_own_task_but_a_split_says_more():
    args = TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number")
    task = Task(args, [Question("s", "sums", "3 + 1", "4")], [], [], 0)
    kept = {"arte": [_row("2 + 2"), _row("3 + 1")], "unaligned": [_row("1 + 3"), _row("5 - 1", "others")]}
    [found] = with_kept_taken([task], kept)
    expected = {"2 + 2": "kept", "1 + 3": "kept", "3 + 1": "seed"}
    assert found.taken() == {comparable(question): split for question, split in expected.items()}
    assert with_kept_taken([task], {}) == [task]
