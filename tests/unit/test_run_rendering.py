"""One run, one rendering: whatever the day, and whoever renders."""

import json

import pytest
from axolotl.utils.dict import DictDefault
from transformers import AutoTokenizer

from arte_plugin.errors import ConfigError
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.run import clock
from arte_plugin.run.run import Run
from arte_plugin.stages import benchmarks, evaluate
from arte_plugin.stages.fine_tuning import TrainedStudent, student_config
from arte_plugin.stages.student_lm import Candidate
from arte_plugin.strategies import tailored
from arte_plugin.strategies.pairs import preference_pairs
from arte_plugin.training.align import prepare_training
from tests.tiny import CHATML, tiny_model

DATED = '{{ strftime_now("%d %b %Y") }}\n' + CHATML


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("models") / "tiny-instruct")
    (folder / "chat_template.jinja").write_text(DATED)
    return folder


@pytest.fixture
def today(monkeypatch):
    class Day(clock.date):
        now = "2024-11-24"

        @classmethod
        def today(cls):
            return clock.date.fromisoformat(cls.now)

    monkeypatch.setattr(clock, "date", Day)
    return Day


@pytest.fixture
def config(dated, tmp_path):
    rows = "".join(json.dumps({"question": f"{i} + 1", "answer": str(i + 1)}) + "\n" for i in range(20))
    (tmp_path / "sums.jsonl").write_text(rows)

    def make(name="out", **arte):
        task = {
            "name": "sums", "description": "Add.", "answer": "number", "seed_questions": 4, "validation_questions": 4,
            "test_questions": 4, "questions": {"path": str(tmp_path / "sums.jsonl")},
        }  # fmt: skip
        return DictDefault({
            "base_model": str(dated), "tokenizer_config": str(dated), "output_dir": str(tmp_path / name),
            "adapter": "lora", "rl": "dpo", "sequence_len": 512, "attn_implementation": "sdpa",
            "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
            "arte": {"student": {"base_model": str(dated)}, "tasks": [task], **arte},
        })  # fmt: skip

    return make


def everybodys_prompts(run, cfg, tmp_path):
    """`Ask.` as each part of the run renders it: teacher, student, DPO's rows, SFT's rows, the test."""
    [student] = run.args.students
    date = run.student_rendering(student).get("date")
    run.pairs_file.parent.mkdir(parents=True, exist_ok=True)
    run.pairs_file.write_text("")
    prepare_training(cfg, run, run.align_inputs(), resume=False)
    tokenizer = AutoTokenizer.from_pretrained(student.base_model)
    transform, _ = preference_pairs(cfg)
    (tmp_path / "tailored.jsonl").write_text("")
    made = student_config(run.cfg, student, tmp_path / "tailored.jsonl", tmp_path, 1, date)
    trained = tailored.load(tokenizer, {"sequence_len": 512}, made["datasets"][0])
    tested = Candidate("arte", "arte", student, TrainedStudent(student.base_model), date=date)
    return {
        teacher_model(run.cfg, run.args, run.cache).renderer.prompt("Ask."),
        student_model(student, run.args, run.cfg, run.cache).renderer.prompt("Ask."),
        transform({"prompt": "Ask.", "chosen": "a", "rejected": "b"}, tokenizer=tokenizer)["prompt"],
        trained.renderer.prompt("Ask."),
        tested.renderer(tokenizer).prompt("Ask."),
    }


def test_everybody_renders_alike_and_next_day_too(config, today, tmp_path):
    first = everybodys_prompts(Run(config()), config(), tmp_path)
    assert first == {"24 Nov 2024\n<|im_start|>user\nAsk.<|im_end|>\n<|im_start|>assistant\n"}
    today.now = "2024-11-25"
    again = Run(config())
    assert everybodys_prompts(again, config(), tmp_path) == first
    [student] = again.args.students
    assert again.student_rendering(student) == {"style": "chat", "date": "2024-11-24"}
    # A new run is of that day.
    assert everybodys_prompts(Run(config("new")), config("new"), tmp_path) != first


def test_the_style_and_the_templates_settings_are_everybodys_too(config, tmp_path):
    plain = {"teacher": {"prompt_style": "plain"}}
    run = Run(config("plain", **plain, student={"base_model": config()["base_model"], "prompt_style": "plain"}))
    cfg = config("plain", **plain)
    assert everybodys_prompts(run, cfg, tmp_path) == {"Ask."}


def test_a_look_at_the_config_leaves_no_date_behind(config, tmp_path):
    Run(config(), starts=False)
    assert not (tmp_path / "out/arte/date.txt").exists()


def test_a_started_runs_date_cant_be_changed(config):
    Run(config(date="2020-02-02"))
    with pytest.raises(ConfigError, match="started with the date 2020-02-02"):
        Run(config(date="2021-02-02"))


def test_another_category_makes_the_results_anew(config, monkeypatch):
    """It stands in their rows, and in no other stage's."""
    seen = {}

    def record(name, inputs, work, models):
        seen.setdefault(name, []).append(json.loads(json.dumps(inputs)))

    monkeypatch.setattr(evaluate, "candidates", lambda run: [])
    monkeypatch.setattr(benchmarks, "run_benchmarks", lambda *arguments: None)
    monkeypatch.setattr(evaluate, "enter_trainings", lambda *arguments: None)
    for category in ("arithmetic", "arithmetic", "sums"):
        cfg = config()
        cfg["arte"]["tasks"][0]["category"] = category
        run = Run(cfg, starts=False)
        monkeypatch.setattr(run.out, "stage", record)
        evaluate.Evaluate().do(run)
        seen.setdefault("others", []).append(run.task_inputs())
    one, same, other = seen["evaluate"]
    assert one == same != other
    assert seen["others"][0] == seen["others"][2]
