"""A `revision` beside every name of a model or data set: in identities, and handed to whoever loads."""

import json
import shutil
from pathlib import Path

import pytest
from axolotl.utils.dict import DictDefault
from pydantic import ValidationError

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.engines import check_aligned_teacher_can_be_served
from arte_plugin.config.preference_set import RespondentArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.config.tasks import QuestionsArgs, TaskArgs
from arte_plugin.data.sources import read_source
from arte_plugin.errors import ConfigError
from arte_plugin.models import identity, serving
from arte_plugin.models.identity import fingerprint_files
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.plan import shapes
from arte_plugin.run.source import SourceRun
from arte_plugin.stages import fine_tuning as sft
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.student_lm import Candidate, loaded_student
from tests.hub_cache import put_model
from tests.tiny import tiny_model

FIRST, SECOND = "1" * 40, "2" * 40
NAME = "me/tiny"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`me/tiny` in the Hub's cache: `main`, and another model of the same form at `next`."""
    cache = tmp_path / "hub"
    for place in ("huggingface_hub.constants.HF_HUB_CACHE", "transformers.utils.hub.constants.HF_HUB_CACHE"):
        monkeypatch.setattr(place, str(cache))
    identity._hub_revision.cache_clear()
    for seed, commit, branch in ((0, FIRST, "main"), (1, SECOND, "next")):
        put_model(cache, NAME, tiny_model(tmp_path / f"tiny-{seed}", seed=seed), commit, branch)
    yield tmp_path
    identity._hub_revision.cache_clear()


def make_args(**block) -> ArteArgs:
    task = {"name": "t", "description": "d", "questions": {"path": "x"}}
    return ArteArgs.model_validate({"student": {"base_model": NAME}, "tasks": [task], **block})


def first_weight(model) -> float:
    return float(next(iter(model.parameters())).flatten()[0])


def weight_of(hub: Path, seed: int) -> float:
    from transformers import AutoModelForCausalLM

    return first_weight(AutoModelForCausalLM.from_pretrained(hub / f"tiny-{seed}"))


def test_the_student_s_identity_and_weights_are_those_of_its_revision(hub):
    args = make_args(student={"base_model": NAME, "revision": "next", "dtype": "float32"})
    cache = RequestCache(hub / "c.sqlite")
    student = student_model(args.students[0], args, {}, cache)
    assert student.identity["model"] == f"{NAME}@{SECOND}"
    assert first_weight(student.load()._base) == weight_of(hub, 1) != weight_of(hub, 0)
    other = student_model(args.students[0], args, {}, cache, RespondentArgs(base_model=NAME))
    assert other.identity["model"] == f"{NAME}@{FIRST}"


def test_the_teacher_s_identity_is_that_of_its_revision(hub):
    args, cache = make_args(), RequestCache(hub / "c.sqlite")
    places = {"base_model": NAME, "base_model_config": NAME, "tokenizer_config": NAME, "torch_dtype": "float32"}
    teacher = teacher_model(DictDefault({**places, "revision_of_model": "next"}), args, cache)
    assert teacher.identity["model"] == f"{NAME}@{SECOND}"
    assert "settings" not in teacher.identity, "told once"
    assert teacher_model(DictDefault(places), args, cache).identity["model"] == f"{NAME}@{FIRST}"


def test_an_aligned_teacher_in_full_has_its_own_weights_not_a_revision_s(hub):
    args, cache = make_args(), RequestCache(hub / "c.sqlite")
    places = {"base_model": NAME, "base_model_config": NAME, "tokenizer_config": NAME, "torch_dtype": "float32"}
    cfg = DictDefault({**places, "revision_of_model": "next"})
    aligned = teacher_model(cfg, args, cache, hub / "tiny-0")
    assert aligned.identity["model"] == fingerprint_files(hub / "tiny-0")


def test_the_evaluated_student_is_that_of_its_revision(hub):
    settings = StudentArgs(base_model=NAME, revision="next", dtype="float32")
    trained = TrainedStudent(NAME, revision="next")
    assert trained.fingerprints() == [f"{NAME}@{SECOND}"]
    with loaded_student(Candidate("base", "base", settings, trained), {}, plain_greedy=True) as (model, _):
        assert first_weight(model.cpu()) == weight_of(hub, 1)


def test_the_student_s_training_starts_from_its_revision(tmp_path):
    tailored = tmp_path / "tailored.jsonl"
    tailored.touch()
    student = StudentArgs(base_model=NAME, revision="next", prompt_style="chat")
    config = sft.student_config({}, student, tailored, tmp_path / "sft", 1)
    assert config["revision_of_model"] == "next"
    assert sft.decisive(config, {}) == sft.decisive({**config, "revision_of_model": SECOND}, {}), (
        "it counts by its content"
    )
    student = StudentArgs(base_model=NAME, prompt_style="chat")
    assert "revision_of_model" not in sft.student_config({}, student, tailored, tmp_path / "sft", 1)


def test_a_plan_looks_at_the_revision_s_config(hub):
    assert SECOND in str(shapes.find_config(NAME, "next")) and FIRST in str(shapes.find_config(NAME))


def test_a_data_set_is_loaded_at_its_revision(monkeypatch):
    asked = {}

    def load_dataset(path, name, split, revision):
        asked.update(path=path, revision=revision)
        return [{"question": "1 + 1?", "answer": "2"}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    task = TaskArgs.model_validate(
        {"name": "sums", "description": "Add.", "answer": "number",
         "questions": {"path": "me/sums", "revision": "v2"}}
    )  # fmt: skip
    assert isinstance(task.questions, QuestionsArgs)
    assert read_source(task, task.questions).questions[0].target == "2"
    assert asked == {"path": "me/sums", "revision": "v2"}


def test_a_file_has_no_revision(tmp_path):
    file = tmp_path / "sums.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "2"}\n')
    questions = {"path": str(file), "revision": "v2"}
    task = TaskArgs.model_validate({"name": "sums", "description": "Add.", "answer": "number", "questions": questions})
    with pytest.raises(ConfigError, match="a file here, which has no `revision`"):
        read_source(task, task.questions)


def test_a_run_on_the_hub_is_taken_at_its_revision(hub):
    for commit, branch in (("3" * 40, "main"), ("4" * 40, "v2")):
        run = hub / branch
        run.mkdir()
        (run / "adapter_config.json").write_text(json.dumps({"which": branch}))
        put_model(hub / "hub", "me/run", run, commit, branch)
    cfg = {"base_model": NAME, "adapter": "lora"}
    assert SourceRun("me/run", cfg, "v2").output_dir.name == "4" * 40
    assert SourceRun("me/run", cfg).output_dir.name == "3" * 40
    folder = shutil.copytree(hub / "v2", hub / "here")
    with pytest.raises(ConfigError, match="a folder here, which has no `from_run_revision`"):
        SourceRun(str(folder), cfg, "v2")
    with pytest.raises(ValidationError, match="goes with `from_run`"):
        make_args(from_run_revision="v2")


def test_a_server_is_started_with_the_revision(hub, monkeypatch):
    command = "vllm serve {model} --revision {revision} --port {port}"
    engine = {"kind": "server", "api": "vllm", "student": {"command": command}}
    started = []
    monkeypatch.setattr("arte_plugin.engines.own_server.OwnServer", lambda *a, **k: started.append(a[2]) or None)
    monkeypatch.setattr("arte_plugin.engines.server.ServerEngine", lambda *a, **k: None)
    for revision in ("next", None):
        args = make_args(student={"base_model": NAME, "revision": revision}, engine=engine)
        served = serving.served_by(args, "student", NAME)
        student = student_model(args.students[0], args, {"output_dir": str(hub)}, RequestCache(hub / "c.sqlite"))
        assert served and student.served
        student.load()
    assert [variables["revision"] for variables in started] == ["next", "main"]


def test_a_server_that_would_be_started_with_another_revision_is_refused():
    command = "vllm serve {model} --port {port}"
    engine = {"kind": "server", "api": "vllm", "student": {"command": command}}
    make_args(engine=engine)
    with pytest.raises(ValidationError, match=r"engine.student: `command` must contain \{revision\}"):
        make_args(student={"base_model": NAME, "revision": "next"}, engine=engine)
    respondents = {"respondents": [{"base_model": NAME, "revision": "next"}]}
    with pytest.raises(ValidationError, match=r"engine.student: `command` must contain \{revision\}"):
        make_args(engine=engine, preference_set=respondents)
    values = {"arte": {"engine": {"kind": "server", "api": "vllm", "teacher": {"command": command}}}}
    check_aligned_teacher_can_be_served(values)
    with pytest.raises(ValueError, match=r"engine.teacher: `command` must contain \{revision\}"):
        check_aligned_teacher_can_be_served({**values, "revision_of_model": "next"})
