"""A stage that is killed, and goes on with another YAML: the manifest vouches for what lies there, or for nothing."""

from types import SimpleNamespace

import pytest

from arte_plugin.config.student import StudentArgs
from arte_plugin.rows import TailoredExample, write_rows
from arte_plugin.run.folder import RunFolder
from arte_plugin.run.manifest import Count, Manifest
from arte_plugin.run.trainings import Training
from arte_plugin.stages import fine_tuning as sft
from arte_plugin.stages import sft as stage


class Killed(BaseException):
    """As by `kill -9`: nothing of the run is executed any more."""


@pytest.fixture
def killed(monkeypatch):
    """What `at` names does not come to be: the process ends there, once."""

    def at(owner, name):
        def end(*args, **kwargs):
            monkeypatch.undo()
            raise Killed

        monkeypatch.setattr(owner, name, end)

    return at


def test_killed_between_a_stage_s_files_and_its_entry(tmp_path, killed):
    folder = RunFolder(tmp_path, 10.0)
    file = folder.file("elicit", "drafts.jsonl")

    def elicit(temperature):
        def work():
            return {file: f"at {temperature}\n"}, [Count("drafts", 1, 1)], {}

        folder.stage("elicit", {"temperature": temperature}, work)

    elicit(1.0)
    killed(Manifest, "record")
    with pytest.raises(Killed):
        elicit(0.1)
    elicit(1.0)
    assert file.read_text() == "at 1.0\n", "not those of the other temperature"


def test_killed_between_rows_that_are_written_as_they_come_and_the_rest(tmp_path, killed):
    folder = RunFolder(tmp_path, 10.0)
    file = folder.file("probe", "probes.jsonl")

    def probe(target, cost=lambda: None):
        def work():
            folder.write_as_made("probe", file, [TailoredExample("t", "q", target, "r", target, "p")])
            cost()
            return {}, [], {}

        folder.stage("probe", {"target": target}, work)

    def dies():
        raise Killed

    probe("1")
    with pytest.raises(Killed):
        probe("2", dies)
    probe("1")
    assert '"target": "1"' in file.read_text()


def test_killed_while_another_student_is_trained_in_the_same_place(tmp_path, monkeypatch):
    out = RunFolder(tmp_path, 10.0)
    student = StudentArgs(base_model="S")
    training = Training(student, "arte", 1, "arte")
    tailored = tmp_path / "tailored.jsonl"
    write_rows(tailored, [TailoredExample("t", "q", "1", "r", "1", "p")])
    run = SimpleNamespace(
        out=out, cfg={}, source=None, examples_file=lambda arm: tailored, student_rendering=lambda student: {}
    )
    weights = out.file("sft", "student") / "weights"
    weights.parent.mkdir(parents=True)
    monkeypatch.setattr(stage, "fingerprint_model", lambda *model: "S")
    monkeypatch.setattr(sft, "too_long", lambda examples, config: [])

    def train(config, folder, processes):
        weights.write_text(str(config["learning_rate"]))
        if config["learning_rate"] == 5e-5:
            raise Killed
        return sft.TrainedStudent(str(weights.parent))

    monkeypatch.setattr(sft, "train", train)
    stage.FineTuning().train(run, training, training)
    student.sft["learning_rate"] = 5e-5
    with pytest.raises(Killed):
        stage.FineTuning().train(run, training, training)
    del student.sft["learning_rate"]
    stage.FineTuning().train(run, training, training)
    assert weights.read_text() == str(sft.RECIPE["learning_rate"])


def test_a_stage_that_stops_before_it_has_written_anything_leaves_what_was_done(tmp_path):
    folder, made = RunFolder(tmp_path, 10.0), []

    def work():
        made.append(1)
        return {}, [], {}

    def stops():
        raise ValueError

    folder.stage("pair", {"quantile": 0.5}, work)
    with pytest.raises(ValueError):
        folder.stage("pair", {"quantile": 0.9}, stops)
    folder.stage("pair", {"quantile": 0.5}, work)
    assert made == [1]
