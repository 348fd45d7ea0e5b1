"""Another run's seed and preference questions against this run's test questions, and its drafts against all of them."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.aligned_on import preference_set_of, without_repeats, without_what_was_aligned_on
from arte_plugin.data.tasks import Task, left_out
from arte_plugin.errors import DataError
from arte_plugin.language import prompts
from arte_plugin.rows import Draft, PreferenceQuestion, Question, write_rows
from arte_plugin.run.manifest import hash_file
from arte_plugin.stages import align_asking, align_check, before_after
from arte_plugin.stages.align_report import OfTask
from arte_plugin.stages.before_after import Answers, Rewritten

ARGS = TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number")
#: What another run has shown its teacher, and measured its student's preference on.
SEED, PREFERENCE = "What is 2 + 2?", "What is 3 + 3?"


def question(text):
    return Question(text, "sums", text, "4")


def task(*test):
    return Task(ARGS, [question("What is 0 + 0?")], [], [question(text) for text in test], 0)


def draft(text):
    ask = prompts.question_prompt("Add.", [(SEED, "4"), ("What is 9 + 9?", "18")], 5)
    return Draft(f"{text}-steps", "sums", text, text, "4", "steps", "<ans>4</ans>", "4", ask, "solve")


@pytest.fixture(params=["a run's folder", "published files"])
def drafts(request, tmp_path):
    """The drafts of that run, with its preference set where it can be found."""
    file = tmp_path / "01-elicit/drafts.jsonl"
    write_rows(file, [draft("What is 1 + 1?"), draft("What is 1 + 2?")])
    place = tmp_path / ("02-preference-set" if request.param == "a run's folder" else "01-elicit")
    write_rows(place / "preference_set.jsonl", [PreferenceQuestion("p", "sums", PREFERENCE, "6", None, None)])
    return file


@pytest.mark.parametrize(("repeated", "what"), [("what is 2+2", "seed"), ("What is 3+3 ?", "preference")])
def test_a_test_question_that_was_aligned_on_is_refused_or_left_out(drafts, repeated, what):
    mine = task("What is 5 + 5?", repeated)
    with pytest.raises(DataError) as raised:
        without_what_was_aligned_on([mine], drafts, "that run", "stop")
    for said in ("Task sums: 1 of its 2 test questions", "teacher of that run was aligned on", f"A {what} question of",
                 repr(repeated), "`arte.overlap: drop`"):  # fmt: skip
        assert said in str(raised.value)
    [kept] = without_what_was_aligned_on([mine], drafts, "that run", "drop")
    assert [one.question for one in kept.test] == ["What is 5 + 5?"]
    assert (
        left_out(kept.duplicates, kept.bad_rows, kept.aligned_on) == " (1 test question that was aligned on left out)"
    )


def test_the_same_splits_are_taken_as_they_are(drafts):
    mine = replace(task("What is 5 + 5?"), seeds=[question(SEED)], validation=[question(PREFERENCE)])
    assert without_what_was_aligned_on([mine], drafts, "that run", "stop") == [mine]


def test_no_test_question_left_is_an_error(drafts):
    with pytest.raises(DataError, match="every one of its test questions"):
        without_what_was_aligned_on([task(SEED)], drafts, "that run", "drop")


def test_what_can_not_be_compared_is_said(tmp_path, caplog):
    mine = task("What is 5 + 5?")
    with caplog.at_level("WARNING"):
        assert without_what_was_aligned_on([mine], tmp_path / "01-elicit/drafts.jsonl", "that run", "stop") == [mine]
    assert "that run has no file with its seed and preference questions" in caplog.text


def run_folder(folder, seed, preference):
    """A run's drafts and preference set; the file with the drafts."""
    ask = prompts.question_prompt("Add.", [(seed, "4")], 5)
    file = folder / "arte/01-elicit/drafts.jsonl"
    write_rows(file, [replace(draft("What is 1 + 1?"), question_prompt=ask)])
    row = PreferenceQuestion("p", "sums", preference, "6", None, None)
    write_rows(folder / "arte/02-preference-set/preference_set.jsonl", [row])
    return file


@pytest.mark.parametrize(
    ("repeated", "what"),
    [("What is 2 + 10?", "seed"), ("What is 3 + 10?", "preference"), ("What is 2 + 20?", "seed"),
     ("What is 3 + 20?", "preference"), ("What is 3 + 30?", "preference")],
)  # fmt: skip
def test_a_later_rounds_teacher_was_aligned_on_the_questions_of_all_rounds_before(tmp_path, repeated, what, caplog):
    for number, folder in ((1, tmp_path), (2, tmp_path / "round-2"), (3, tmp_path / "round-3")):
        drafts = run_folder(folder, f"What is 2 + {number}0?", f"What is 3 + {number}0?")
    with pytest.raises(DataError, match=f"A {what} question of that run"):
        without_what_was_aligned_on([task("What is 5 + 5?", repeated)], drafts, "round-3", "stop")
    assert not caplog.text


def test_a_round_is_not_aligned_on_the_questions_of_later_ones(tmp_path):
    run_folder(tmp_path / "round-3", "What is 2 + 30?", "What is 3 + 30?")
    first, second = (
        run_folder(folder, "What is 2 + 2?", "What is 3 + 3?") for folder in (tmp_path, tmp_path / "round-2")
    )
    mine = task("What is 3 + 30?")
    for drafts in (first, second):
        assert without_what_was_aligned_on([mine], drafts, "that run", "stop") == [mine]


def test_a_round_without_those_before_it_can_not_be_compared_whole(tmp_path, caplog):
    drafts = run_folder(tmp_path / "round-2", "What is 2 + 2?", "What is 3 + 3?")
    mine = task("What is 5 + 5?")
    with caplog.at_level("WARNING"):
        assert without_what_was_aligned_on([mine], drafts, "that run", "stop") == [mine]
    assert "round 1 of that run has no file with its seed and preference questions" in caplog.text


def test_drafts_that_repeat_a_question_of_this_run_are_dropped_once_each():
    drafts = [draft("What is 5 + 5?"), draft("What is 6 + 6?"), replace(draft("What is 5 + 5?"), draft_id="other")]
    kept, dropped = without_repeats(drafts, [task("what is 5+5")], "pair")
    assert [one.question for one in kept] == ["What is 6 + 6?"]
    assert [(row.stage, row.reason, row.id) for row in dropped] == [("pair", "repeats_test", "What is 5 + 5?")]


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """The align check of a run with these published drafts: what was shown, the stage's inputs, and the report."""

    def check(drafts):
        args = ArteArgs.model_validate(
            {
                "pair": {"drafts": str(drafts), "scores": "unread.jsonl"},
                "student": {"base_model": "./student"},
                "tasks": [ARGS.model_dump(exclude_unset=True)],
                "align": {"held_out": 0},
            }
        )
        mine = Task(ARGS, [], [question(PREFERENCE.lower()), question("What is 5 + 5?")], [], 0)
        pairs = tmp_path / "pairs.jsonl"
        write_rows(pairs, [])
        rewritten = [Rewritten("sums", "n", "1 + 1?", "2", "as it was", "as it is", "2", "2")]
        of_task = {"sums": OfTask(rows=rewritten)}
        shown, inputs = [], {}

        def ask_student(task, rows, questions, student, settings):
            shown.extend(one.question for one in questions)
            right = np.array([[float(i) for i in range(len(questions))]])
            return Answers(right, right), []

        model = SimpleNamespace(identity={}, name="student", served=False, close=lambda: None)
        monkeypatch.setattr(before_after, "ask_student", ask_student)
        monkeypatch.setattr(align_asking, "ask_teachers", lambda *_: (of_task, []))
        for name in ("teacher_model", "aligned_teacher", "student_model"):
            monkeypatch.setattr(align_check, name, lambda *_: model)

        made = {}

        def run_stage(name, given, work, models):
            inputs.update(given)
            files, _, _ = work()
            made.update(json.loads(files[tmp_path / align_check.FILE]))

        run = SimpleNamespace(
            args=args, cfg={}, cache=None, tasks=[mine], weights={}, pairs_file=pairs, held_out_file=pairs,
            scored_drafts=lambda: (drafts, None), asking=lambda _: {},
            out=SimpleNamespace(file=lambda _, name: tmp_path / name, stage=run_stage, manifest=None),
        )  # fmt: skip
        monkeypatch.setattr(align_check, "enter_teacher", lambda _: None)
        monkeypatch.setattr(align_check, "alignment_report", lambda _: made)
        run.out.path = tmp_path
        align_check.AlignCheck().do(run)
        return shown, inputs, made

    return check


def test_the_check_shows_no_question_that_published_drafts_were_chosen_by(drafts, checked):
    shown, inputs, report = checked(drafts)
    assert shown == ["What is 5 + 5?"], "that run's preference questions are known by their text"
    assert inputs["preference_set"] == hash_file(preference_set_of(drafts))
    assert "may be those" not in report["verdict"]


def test_where_the_preference_set_is_not_known_the_verdict_says_so(tmp_path, checked):
    drafts = tmp_path / "published/drafts.jsonl"
    write_rows(drafts, [draft("What is 1 + 1?")])
    shown, inputs, report = checked(drafts)
    assert len(shown) == 2
    assert report["verdict"].endswith("; the questions asked may be those that decided which drafts were chosen")
    assert inputs["preference_set"] == "unknown", "an earlier verdict did not say so"
