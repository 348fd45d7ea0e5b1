"""Arms with the same examples have one student, as long as it is there. The training itself is stood in for."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.rows import TailoredExample, write_rows
from arte_plugin.run.folder import RunFolder
from arte_plugin.run.manifest import Manifest
from arte_plugin.run.source import SourceRun
from arte_plugin.run.trainings import trainings
from arte_plugin.stages import fine_tuning as sft
from arte_plugin.stages import sft as stage

TASK = {"name": "sums", "description": "Add.", "questions": {"path": "none.jsonl"}}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """`start({arm: word})`: run stage 7, with one example for each arm; what it trains, and each arm's student.

    A student is the word that it was trained on.
    """
    trained = []

    def train(config, folder, processes=None):
        output = Path(config["output_dir"])
        output.mkdir(parents=True, exist_ok=True)
        words = Path(config["datasets"][0]["path"]).read_text(encoding="utf-8")
        (output / "words").write_text(words, encoding="utf-8")
        trained.append(output.relative_to(tmp_path / "07-sft").as_posix())
        return sft.TrainedStudent(str(output))

    monkeypatch.setattr(sft, "train", train)
    monkeypatch.setattr(sft, "too_long", lambda examples, config: [])
    monkeypatch.setattr(sft, "decisive", lambda config, given: {})
    monkeypatch.setattr(stage, "fingerprint_model", lambda *_: "the student's")

    def start(words):
        trained.clear()
        args = ArteArgs.model_validate({"student": {"base_model": "org/student"}, "tasks": [TASK], "arms": [*words]})
        out = RunFolder(tmp_path, rank_timeout=1)
        for arm, word in words.items():
            write_rows(tmp_path / f"{arm}.jsonl", [TailoredExample("sums", "1 + 1", "2", word, "2", "1 + 1")])
        run = SimpleNamespace(
            args=args, cfg={}, out=out, source=None, student_rendering=lambda _: {},
            examples_file=lambda arm: tmp_path / f"{arm}.jsonl",
        )  # fmt: skip
        stage.FineTuning().do(run)
        stages = out.manifest.stages()
        students = [Path(stages[one.stage].result["model"]) / "words" for one in trainings(args)]
        said = (file.read_text(encoding="utf-8") for file in students)
        return [*trained], [next(word for word in ("old", "new") if word in text) for text in said]

    return start


def test_an_arm_is_trained_once_its_student_has_become_another_arms(start):
    """The teacher did not change, so both arms are alike; trained with a higher rate, it did."""
    assert start({"arte": "old", "unaligned": "old"}) == (["student"], ["old", "old"])
    assert start({"arte": "new", "unaligned": "old"}) == (["student", "unaligned/student"], ["new", "old"])
    assert start({"arte": "new", "unaligned": "old"}) == ([], ["new", "old"])


def test_so_it_is_where_it_stands_before_the_other(start):
    start({"arte": "old", "unaligned": "old"})
    trained, students = start({"unaligned": "old", "arte": "new"})
    assert sorted(trained) == ["student", "unaligned/student"] and students == ["old", "new"]


def test_so_it_is_where_the_others_training_was_killed(start, monkeypatch):
    start({"arte": "old", "unaligned": "old"})
    with monkeypatch.context() as patch:
        patch.setattr(sft, "train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start({"arte": "new", "unaligned": "old"})
    # Without the other arm, nothing of this run tells that its student is gone.
    assert start({"unaligned": "old"}) == (["unaligned/student"], ["old"])


def test_a_student_that_lies_in_another_arms_folder_stays_while_it_is_there(start):
    start({"arte": "old", "unaligned": "old"})
    assert start({"unaligned": "old"}) == ([], ["old"])
    assert start({"unaligned": "old", "arte": "old"}) == ([], ["old", "old"])


def test_no_other_run_takes_a_student_over_that_was_trained_over(tmp_path):
    (tmp_path / "config.json").touch()
    source = SourceRun(str(tmp_path), {"base_model": "org/teacher"})
    student = {"model": str(tmp_path / "arte/07-sft/student")}
    Path(student["model"]).mkdir(parents=True)
    manifest = Manifest(tmp_path / "arte/manifest.json")
    for name in ("sft/unaligned", "sft"):
        manifest.record(name, {"tailored": "old"}, [], {}, 0.0, result=student)
    old = manifest.stages()["sft"].inputs_hash
    assert source.trained(old) == student
    manifest.record("sft", {"tailored": "new"}, [], {}, 0.0, result=student)
    assert source.trained(old) is None
    assert source.trained(manifest.stages()["sft"].inputs_hash) == student
