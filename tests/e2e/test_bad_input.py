"""What goes wrong is told in one clear message, ends with an exit code other than 0, and loses nothing."""

import re

import pytest
import yaml

from arte_plugin.errors import ArteError
from arte_plugin.loop.loop import begin
from tests.e2e.conftest import axolotl, command

DUPLICATE = {"name": "x", "description": "d", "questions": {"path": "yaml_examples/data/kind_of_thing.jsonl"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arte.elicit.question": 3}, ["arte.elicit.question", "no such key", "`questions`"]),
        ({"arte.probe.batch_size": 0}, ["arte.probe.batch_size", "greater than or equal to 1", "found 0"]),
        ({"arte.tasks.0.name": "a/b"}, ["arte.tasks[0].name", "found 'a/b'"]),
        ({"arte.tasks.0.name": "a..b"}, ["arte.tasks[0].name", "'..'"]),
        ({"arte.tasks": [DUPLICATE, DUPLICATE]}, ["two tasks are called 'x'"]),
        ({"arte.student.base_model": None}, ["arte.student.base_model", "required"]),
        ({"rl": "kto"}, ["rl: dpo", "kto"]),
        ({"rl": None}, ["rl: dpo"]),
        ({"datasets": [{"path": "pairs.jsonl", "type": "chatml.intel"}]}, ["arte://pairs", "pairs.jsonl"]),
        ({"arte": None}, ["no `arte:` block"]),
    ],
)
def test_config_is_refused_without_axolotl_being_loaded(write_config, changes, said):
    config = write_config(changes)
    done = command("arte", "validate", str(config))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for words in said:
        assert words in done.stderr


def test_below_the_launchers_traceback_our_message_stands_again(write_config):
    config = str(write_config({"arte.elicit.question": 3}))
    done = command("axolotl", "train", config, together=True)
    assert done.returncode == 1
    _, behind = done.stdout.rsplit("subprocess.CalledProcessError", 1)
    assert behind.split("\n", 1)[1] == command("arte", "validate", config).stderr


def test_axolotl_train_says_the_same(write_config):
    done = command("axolotl", "train", str(write_config({"arte.elicit.question": 3})), "--launcher", "python")
    assert done.returncode == 1
    assert "arte.elicit.question: there is no such key; did you mean `questions`?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arte.tasks.0.questions.path": "no/such.jsonl"}, "there is no file no/such.jsonl"),
        ({"arte.student.base_model": "./no/such/model"}, "no model directory ./no/such/model"),
        ({"arte.evaluate.benchmarks": ["piqq"]}, "no task or group 'piqq'; did you mean"),
    ],
)
def test_missing_files_are_told_before_a_model_is_loaded(write_config, tmp_path, changes, said):
    """By what a command makes first; the next test is of a command."""
    with pytest.raises(ArteError, match=re.escape(said)):
        begin(yaml.safe_load(write_config(changes).read_text()))
    assert not (tmp_path / "arte/arte/requests.sqlite").exists()


def test_axolotl_train_tells_a_missing_model_before_it_loads_another(write_config, tmp_path):
    config = write_config({"arte.student.base_model": "./no/such/model"})
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 1
    assert "no model directory ./no/such/model" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "arte/arte/requests.sqlite").exists()


def test_teacher_without_a_usable_question_is_given_up(write_config, untaught, tmp_path):
    config = write_config({"base_model": str(untaught), "arte.elicit.max_new_tokens": 40})
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 1
    assert "wrote no usable question in 8 calls" in done.stderr
    assert "elicit.prefill" in done.stderr
    assert not (tmp_path / "arte/adapter_config.json").exists()
