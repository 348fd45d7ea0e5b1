"""`engine: {kind: auto}`: a run stays with what it began with."""

import json

import pytest
import torch
import yaml
from click.testing import CliRunner

from arte_plugin.cli import cli
from arte_plugin.config.engines import TransformersEngineArgs
from arte_plugin.engines.base import Completion, Likelihood
from arte_plugin.errors import ConfigError
from arte_plugin.loop import rounds
from arte_plugin.loop.loop import begin
from arte_plugin.models import auto_engine, serving
from arte_plugin.models.auto_engine import Choice, Machine, choose, settled
from arte_plugin.models.request_cache import LIKELIHOODS
from arte_plugin.run.manifest import Count, Manifest
from arte_plugin.run.run import Run
from arte_plugin.stages.fine_tuning import TrainedStudent
from tests.taught import TASK, TAUGHT
from tests.unit.test_auto_engine import CALLS, LORA, machine, make_args


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    return Manifest(tmp_path / "manifest.json")


def never():
    raise AssertionError("how much there is to ask no longer counts")


def today(manifest, args=None, cfg=LORA, on=None, calls=never) -> Choice:
    """What a start of the manifest's run comes to, on a GPU with bfloat16."""
    dtype_of = lambda student: "bfloat16" if student.dtype == "auto" else student.dtype  # noqa: E731
    return settled(args or make_args(), cfg, manifest, on or machine("vllm"), calls, dtype_of)


@pytest.fixture
def begun(manifest) -> Choice:
    """Both were served when the run of `manifest` began, on one GPU."""
    choice = today(manifest, calls=lambda: CALLS)
    manifest.enter_engine(auto_engine.as_entered(choice))
    assert choice.student and choice.teacher
    return choice


def test_a_run_stays_with_what_it_began_with(manifest, begun):
    # What is finished later leaves it there.
    manifest.record("elicit", {}, [Count("rows", 1, 1)], {}, 1.0)
    again = today(
        manifest, on=machine("vllm", "sglang"), args=make_args(engine={"kind": "auto", "programs": ["sglang"]})
    )
    assert (again.api, again.program, again.student, again.teacher) == ("vllm", "vllm", begun.student, begun.teacher)
    assert again.line() == (
        "engine auto: student on vLLM (vllm), as this run began; teacher on vLLM (vllm), as this run began"
    )
    assert json.loads(manifest.path.read_text())["engine"]["program"] == "vllm"


@pytest.mark.parametrize(
    ("student", "cfg", "role", "key", "said"),
    [
        ({"dtype": "float32"}, {}, "student", "command", "--dtype float32"),
        ({"revision": "v2"}, {}, "student", "command", "--revision {revision}"),
        ({"trust_remote_code": True}, {}, "student", "command", "--trust-remote-code"),
        ({}, {"lora_r": 64}, "teacher", "adapter_options", "--max-lora-rank 64"),
        ({}, {"bf16": False, "fp16": True}, "teacher", "command", "--dtype float16"),
        ({}, {"revision_of_model": "v2"}, "teacher", "command", "--revision {revision}"),
    ],
)
def test_its_commands_are_made_from_today_s_yaml(manifest, begun, student, cfg, role, key, said):
    args = make_args({"base_model": "org/student-2B", **student})
    again = today(manifest, args, {**LORA, **cfg})
    assert said in getattr(again, role)[key] and said not in getattr(begun, role)[key]
    assert again.line().count("as this run began") == 2


@pytest.mark.parametrize(
    ("more", "cfg", "who", "why"),
    [
        ({"probe": {"score": "likelihood"}}, {}, "student", "a server can't tell what `probe.score: likelihood` asks"),
        ({"student": [{"base_model": "org/a-2B"}, {"base_model": "org/b-2B", "dtype": "float32"}]}, {}, "student",
         "the students' precisions differ"),
        ({}, {"adapter": "qlora", "load_in_4bit": True}, "teacher", "it is quantised"),
        ({}, {"peft_use_dora": True}, "teacher", "a server can't be given its adapter"),
        ({}, {"bf16": False, "plugins": ["arte_plugin.Float32Weights"]}, "teacher", "trained with float32 weights"),
    ],
)  # fmt: skip
def test_who_can_t_be_served_by_today_s_yaml_goes_on_in_this_process(manifest, begun, more, cfg, who, why):
    args = make_args(**more)
    again = today(manifest, args, {**LORA, **cfg})
    args.engine = again.engine(args.engine)
    for role in ("student", "teacher"):
        assert (serving.served_by(args, role, "org/student-2B") is None) == (role == who)
    assert why in again.why[who] and "it began on vLLM" in again.why[who] and "asked anew here" in again.why[who]
    # Where the YAML says again what it said, the server's answers are found again.
    assert today(manifest).student == begun.student and today(manifest).teacher == begun.teacher


def test_a_program_that_nobody_needs_any_more_is_not_asked_for(manifest, begun):
    quantised = {**LORA, "load_in_8bit": True}
    again = today(manifest, make_args(probe={"score": "likelihood"}), quantised, machine())
    assert isinstance(again.engine(make_args().engine), TransformersEngineArgs)


@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_it_goes_on_with_the_gpus_that_there_are_and_finds_its_answers(manifest, gpus):
    cfg = {**LORA, "base_model": "org/teacher-30B"}
    begun = today(manifest, cfg=cfg, on=machine("vllm", gpus=8), calls=lambda: CALLS)
    manifest.enter_engine(auto_engine.as_entered(begun))
    args = make_args()
    again = today(manifest, cfg=cfg, on=machine("vllm", gpus=gpus, numbered=gpus != 4))
    then, now = begun.engine(args.engine), again.engine(args.engine)
    assert then.student.replicas == 8 and "--tensor-parallel-size 2 --data-parallel-size 4" in then.teacher.command
    assert now.student.replicas == (2 if gpus == 2 else 1)
    assert ("--data-parallel-size 4" in now.student.command) == (gpus == 4)
    assert ("--tensor-parallel-size" in now.teacher.command) == (gpus > 1)
    for role in ("student", "teacher"):
        args.engine = then
        before = serving.server_identity(args, getattr(then, role))
        args.engine = now
        assert serving.server_identity(args, getattr(now, role)) == before


def test_another_rank_asks_nothing_anew_and_another_precision_does():
    args = make_args()

    def identity(cfg=LORA, dtype="bfloat16"):
        choice = choose(args, cfg, machine("vllm"), CALLS, lambda student: dtype)
        engine = choice.engine(make_args().engine)
        return [
            serving.server_identity(args.model_copy(update={"engine": engine}), one)
            for one in (engine.teacher, engine.student)
        ]

    assert identity({**LORA, "lora_r": 64}) == identity()
    assert identity(dtype="float32")[1] != identity()[1]
    assert identity({**LORA, "bf16": False, "fp16": True})[0] != identity()[0]


@pytest.mark.parametrize(
    ("on", "lacks"),
    [(machine(), "its command, vllm, is not found here"), (machine("vllm", gpus=0), "there is no GPU here")],
)
def test_a_machine_that_lacks_what_the_run_began_with_is_told_of(manifest, begun, on, lacks):
    with pytest.raises(ConfigError, match=f"began with vLLM for its student and teacher, and {lacks}"):
        today(manifest, on=on)


def test_a_run_that_began_without_a_server_goes_on_without_one(manifest):
    manifest.enter_engine(auto_engine.as_entered(today(manifest, on=machine(gpus=0), calls=lambda: CALLS)))
    choice = today(manifest, on=machine("vllm", gpus=8))
    assert choice.student is None and choice.teacher is None
    assert choice.line().count("in this process, as this run began") == 2


def test_a_run_from_before_auto_stays_with_its_engine(manifest):
    manifest.record("elicit", {"model": {"engine": "transformers"}}, [], {}, 1.0)
    assert today(manifest).line().count("as this run began") == 2
    manifest.record("probe", {"students": [{"model": {"engine": "server", "api": "vllm"}}]}, [], {}, 1.0)
    with pytest.raises(ConfigError, match="began with the servers that its YAML named"):
        today(manifest)


@pytest.fixture
def config(tmp_path, tiny_cfg):
    def write(**arte):
        cfg = {**tiny_cfg, "output_dir": str(tmp_path / "out")}
        cfg["arte"] = {**cfg["arte"], "engine": {"kind": "auto", "from_requests": 100}, **arte}
        path = tmp_path / "arte.yaml"
        path.write_text(yaml.safe_dump(cfg))
        return path

    return write


@pytest.fixture
def tiny_cfg(tmp_path):
    questions = tmp_path / "questions.jsonl"
    rows = [{"question": f"not {i} < {j}", "answer": str(not i < j)} for i in range(8) for j in range(8)]
    questions.write_text("\n".join(map(json.dumps, rows)))
    return {
        "base_model": str(TAUGHT),
        "rl": "dpo",
        "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
        "plugins": ["arte_plugin.ArtePlugin"],
        "arte": {
            "student": {"base_model": str(TAUGHT)},
            "tasks": [
                {
                    "name": TASK, "description": "Say whether it holds.", "answer": "boolean",
                    "questions": {"path": str(questions)}, "seed_questions": 8, "validation_questions": 12,
                    "test_questions": 12,
                }
            ],
        },
        "adapter": "lora",
        "micro_batch_size": 1,
        "sequence_len": 512,
        "bf16": False,
        "fp16": False,
    }  # fmt: skip


@pytest.fixture
def with_vllm(monkeypatch):
    """One GPU and a vLLM, as far as a choice goes."""
    there = {"vllm"}
    monkeypatch.setattr(auto_engine, "finds", there.__contains__)
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: machine(*there)))
    return there


def test_validate_and_plan_say_beforehand_and_the_run_does_it(config, with_vllm, tmp_path):
    path = str(config())
    said = "student on vLLM (vllm), for its 12,048 requests to come, where 100 make up"
    assert not (tmp_path / "out").exists()
    validated = CliRunner().invoke(cli, ["validate", path])
    assert said in validated.output, validated.output
    planned = CliRunner().invoke(cli, ["plan", path])
    assert said in planned.output, planned.output
    assert "GPU-hours in place of" in planned.output
    assert "A server runs the student" in planned.output
    # To look is not to begin.
    assert Manifest(tmp_path / "out/arte/manifest.json").engine() is None

    run = begin(yaml.safe_load(config().read_text()))
    assert said in run.chosen.line()
    assert run.args.engine.student.command.startswith("vllm serve")
    # It goes on the same, with other sizes and another program beside it, once it has an answer.
    run.cache.put([("key", Completion("said", "stop", 1, 1))])
    with_vllm.add("sglang")
    smaller = config(elicit={"questions": 1}, engine={"kind": "auto", "from_requests": 10**6})
    again = begin(yaml.safe_load(smaller.read_text()))
    assert again.args.engine == run.args.engine
    # With another precision, all three say so.
    student = {"base_model": str(TAUGHT), "dtype": "float16"}
    other = str(config(student=student))
    for command in ("validate", "plan"):
        told = CliRunner().invoke(cli, [command, other])
        assert "student on vLLM (vllm), as this run began" in " ".join(told.output.split()), told.output
    assert "float16" in told.output
    assert "--dtype float16" in begin(yaml.safe_load(config(student=student).read_text())).args.engine.student.command
    # And where a server can't do it.
    likelihood = str(config(probe={"score": "likelihood"}))
    for command in ("validate", "plan"):
        told = CliRunner().invoke(cli, [command, likelihood])
        assert "`probe.score: likelihood` asks (it began on vLLM" in " ".join(told.output.split()), told.output
    assert begin(yaml.safe_load(config(probe={"score": "likelihood"}).read_text())).args.engine.student is None
    config()
    with_vllm.clear()
    with pytest.raises(ConfigError, match="vllm, is not found here"):
        begin(yaml.safe_load(config().read_text()))
    refused = CliRunner().invoke(cli, ["plan", path])
    assert refused.exit_code != 0 and "is not found here" in refused.output
    # And as told.
    told = begin(yaml.safe_load(config(engine={"kind": "transformers"}).read_text()))
    assert told.args.engine.kind == "transformers"


def test_later_rounds_stay_with_the_first_s_servers_on_another_machine_too(config, with_vllm, tmp_path, monkeypatch):
    written = yaml.safe_load(config(rounds=2).read_text())
    run = begin(written)
    monkeypatch.setattr(rounds, "_tuned", lambda *of: TrainedStudent(str(TAUGHT), None))
    folder = tmp_path / "out/round-2"

    def later() -> Run:
        made = rounds._next_config(run, written, 2, tmp_path / "out", folder)
        # What it trains on from is not there.
        return begin({**made, "lora_model_dir": None})

    with_vllm.clear()
    rounds._hand_on_engine(run, folder)
    with pytest.raises(ConfigError, match="vllm, is not found here"):
        later()
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: machine("vllm", gpus=2)))
    second = later()
    assert second.chosen.line().count("as this run began") == 2 and second.args.engine.student.replicas == 2
    for role in ("student", "teacher"):
        one, two = (serving.server_identity(of.args, getattr(of.args.engine, role)) for of in (run, second))
        assert one == two


@pytest.mark.parametrize("asked", ["nothing", "an answer", "a likelihood", "a stage"])
def test_a_start_that_was_ended_before_anything_was_asked_chooses_once_more(asked, config, with_vllm, tmp_path):
    """As of somebody who reads that no vLLM is found, ends the run and installs it."""
    with_vllm.clear()
    run = begin(yaml.safe_load(config().read_text()))
    assert "no vLLM or SGLang is found" in run.chosen.line()
    if asked == "an answer":
        run.cache.put([("key", Completion("said", "stop", 1, 1))])
    elif asked == "a likelihood":
        run.cache.put_into(LIKELIHOODS, [("key", Likelihood(-1.0, 1, 1))])
    elif asked == "a stage":
        run.out.manifest.record("elicit", {}, [], {}, 1.0)
    with_vllm.add("vllm")
    told = CliRunner().invoke(cli, ["plan", str(config())])
    again = begin(yaml.safe_load(config().read_text()))
    stays = asked != "nothing"
    assert (
        ("as this run began" in again.chosen.line()) == ("as this run began" in " ".join(told.output.split())) == stays
    )
    assert again.args.engine.kind == ("transformers" if stays else "server")
    assert run.out.manifest.engine()["program"] == ("" if stays else "vllm")
    # And back, where it would have to stop else.
    with_vllm.clear()
    assert begin(yaml.safe_load(config().read_text())).args.engine.kind == "transformers"


def test_ranks_on_several_machines_and_later_rounds_go_by_what_is_entered(tmp_path, monkeypatch):
    assert auto_engine.nothing_asked(make_args(), tmp_path)
    assert not auto_engine.nothing_asked(make_args(rounds=2, round=2), tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert not auto_engine.nothing_asked(make_args(), tmp_path)


def test_this_machine_s_own_run(config, tmp_path):
    """Nothing patched: on a CPU it comes to our own engine, whatever is installed."""
    run = begin(yaml.safe_load(config().read_text()))
    if not torch.cuda.is_available():
        assert run.args.engine.kind == "transformers" and "there is no GPU" in run.chosen.line()
    assert Manifest(tmp_path / "out/arte/manifest.json").engine()["why"] == run.chosen.why
