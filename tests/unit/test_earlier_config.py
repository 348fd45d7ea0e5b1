"""`arte status` after a stage has been made anew: what lies behind it is of the config before, and is not shown."""

import json

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.rows import Result
from arte_plugin.run.earlier_config import outdated
from arte_plugin.run.manifest import Count, Manifest, hash_file
from arte_plugin.run.trainings import enter_trainings
from arte_plugin.show.alignment import enter_teacher
from arte_plugin.show.summary import summary

RESULT = Result("sums", "", "base", "student", 0, 4, 2, 0, 0.5, 0.15, 0.85)
MADE_BY = {
    "drafts.jsonl": "01-elicit",
    "preference_set.jsonl": "02-preference-set",
    "scores.jsonl": "03-probe",
    "pairs.jsonl": "04-pair",
    "tailored.jsonl": "06-regenerate",
}


@pytest.fixture
def folder(tmp_path):
    """A finished run, as its manifest and the files tell of it."""
    hashes = {}
    for name, stage in MADE_BY.items():
        file = tmp_path / stage / name
        file.parent.mkdir()
        file.write_text(f"{name} of the first config\n")
        hashes[name.partition(".")[0]] = hash_file(file)
    manifest = Manifest(tmp_path / "manifest.json")

    def record(stage, *files, note="", result=None, **inputs):
        inputs |= {name: hashes[name] for name in files}
        manifest.record(stage, inputs, [Count("rows", 3, 3, note=note)], {}, 1.0, result)

    record("elicit", tasks=["sums"])
    record("preference-set")
    record("probe", "drafts", "preference_set")
    record("pair", "drafts", "scores")
    record("align", "pairs", result={"left": {"files": {"adapter": "a"}}})
    record("align-check", "pairs", "drafts", "preference_set", note="30 % of rationales changed")
    enter_teacher(manifest)
    record("regenerate", tasks=["sums"])
    enter_teacher(manifest, "regenerate")
    record("sft", "tailored")
    record("evaluate", tasks=["sums"], note="0 % unparsed")
    enter_trainings(manifest, ["sft"])
    results = {"results": [vars(RESULT)], "comparisons": []}
    (tmp_path / "08-evaluate").mkdir()
    (tmp_path / "08-evaluate/results.json").write_text(json.dumps(results))
    return tmp_path


def old(folder, args=None):
    return outdated(folder, Manifest(folder / "manifest.json").stages(), args)


def test_a_finished_run_shows_what_it_found(folder):
    assert old(folder) == set()
    assert "accuracy" in summary(folder) and "30 % of rationales changed" in summary(folder)


def test_nothing_behind_new_pairs_is_shown_as_theirs(folder):
    (folder / "04-pair/pairs.jsonl").write_text("pairs of another margin\n")
    shown = summary(folder)
    assert "accuracy" not in shown and "rationales changed" not in shown and "unparsed" not in shown
    assert shown.count("of an earlier config") == 5
    assert old(folder) == {"align", "align-check", "regenerate", "sft", "evaluate"}


@pytest.mark.parametrize(
    ("file", "first"),
    [("01-elicit/drafts.jsonl", "probe"), ("03-probe/scores.jsonl", "pair"), ("06-regenerate/tailored.jsonl", "sft")],
)
def test_every_stage_behind_a_changed_file_is_of_an_earlier_config(folder, file, first):
    (folder / file).write_text("of the second config\n")
    names = list(Manifest(folder / "manifest.json").stages())
    assert old(folder) == set(names[names.index(first) :])


def test_a_teacher_trained_anew_has_written_none_of_the_examples(folder):
    manifest = Manifest(folder / "manifest.json")
    manifest.amend("align", {"left": {"files": {"adapter": "b"}}})
    assert old(folder) == {"align-check", "regenerate", "sft", "evaluate"}
    enter_teacher(manifest)
    enter_teacher(manifest, "regenerate")
    assert old(folder) == set(), "stages that were found done with the teacher that is there now"


def test_a_student_trained_anew_has_no_results(folder):
    manifest = Manifest(folder / "manifest.json")
    manifest.record("sft", {**manifest.stages()["sft"].inputs, "config": "longer"}, [], {}, 1.0)
    assert old(folder) == {"evaluate"}
    assert "accuracy" not in summary(folder)


def test_results_of_other_test_questions_are_not_shown(folder):
    Manifest(folder / "manifest.json").record("elicit", {"tasks": ["other sums"]}, [], {}, 1.0)
    assert old(folder) == {"evaluate"}


def test_drafts_from_elsewhere_are_not_compared_with_those_that_lie_here(folder):
    args = ArteArgs.model_validate(
        {
            "pair": {"drafts": "there/drafts.jsonl", "scores": "there/scores.jsonl"},
            "student": {"base_model": "./student"},
            "tasks": [{"name": "sums", "description": "Add.", "questions": {"path": "q.jsonl"}, "answer": "number"}],
        }
    )
    for file in ("01-elicit/drafts.jsonl", "03-probe/scores.jsonl", "02-preference-set/preference_set.jsonl"):
        (folder / file).write_text("left from before\n")
    assert old(folder, args) == set()
