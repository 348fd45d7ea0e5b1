"""Rounds: what is refused, and what their table shows. tests/e2e/test_rounds.py runs them."""

import copy
import json

import pytest
import torch
import yaml
from axolotl.cli.config import load_cfg
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from arte_plugin.config.check import raw_config
from arte_plugin.errors import ConfigError
from arte_plugin.loop import rounds
from arte_plugin.loop.rounds import _as_started, _merge_student
from arte_plugin.rows import write_text
from arte_plugin.run.manifest import Count, Manifest
from arte_plugin.run.run import Run
from arte_plugin.show.rounds import round_lines
from arte_plugin.stages.fine_tuning import TrainedStudent
from tests.taught import TAUGHT
from tests.unit.test_students import check

STUDENT = {"base_model": "x"}

SUMS = {"name": "sums", "description": "Add.", "answer": "number", "seed_questions": 4, "validation_questions": 4}
QUESTIONS = [{"question": f"{i} + 1", "answer": str(i + 1)} for i in range(20)]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"round": 2}, "`round: 2` is more than `rounds: 1`"),
        ({"student_from": "base"}, "`student_from` is about later `rounds`, and there is one: set `rounds: 2`, say"),
        ({"keep_examples": True}, "`keep_examples` is about later `rounds`"),
        ({"rounds": 2, "student_from": "last"}, "arte.student_from: Input should be 'tuned' or 'base'"),
        ({"rounds": 2, "from_run": "somewhere"}, "and `from_run` takes the place of that"),
        ({"rounds": 2, "pair": {"drafts": "d", "scores": "s"}}, "and `pair.drafts` takes the place of that"),
        (
            {"from_run": "somewhere", "pair": {"drafts": "d", "scores": "s"}},
            "`from_run` takes the place of",
        ),
        ({"rounds": 0}, "arte.rounds: Input should be greater than or equal to 1"),
        ({"rounds": 2, "held_out": 1}, "arte.held_out: Input should be less than 1"),
    ],
)
def test_keys_that_do_not_go_together(keys, said):
    with pytest.raises(ConfigError, match=said) as error:
        check(STUDENT, **keys)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("yaml_says", "options", "round_has"),
    [
        # Validated, 1 has become 1.0 and 3 is 3.0.
        ({"num_epochs": 1}, {"num_epochs": "3"}, {"num_epochs": 3}),
        # PyYAML reads this as text.
        ({"learning_rate": "5e-5"}, {"learning_rate": "1e-5"}, {"learning_rate": "1e-5"}),
        ({}, {"learning_rate": "5e-5"}, {"learning_rate": 5e-5}),
        ({"bf16": "auto"}, {"bf16": "false"}, {"bf16": "false"}),
        ({"trl": {"beta": 0.1}}, {"trl__beta": 0.3}, {"trl": {"beta": 0.3}}),
        # What Axolotl makes of them on this machine is not the user's wish.
        ({"bf16": "auto", "learning_rate": "5e-5", "num_epochs": 1}, {}, {}),
        # `axolotl train` hands these over whether they were given or not.
        ({}, {"debug": False, "debug_text_only": False, "debug_num_examples": 0, "shard": False}, {}),
        # These are the first round's own.
        ({}, {"resume_from_checkpoint": "somewhere/checkpoint-3"}, {}),
    ],
)
def test_a_later_round_is_run_with_the_options_of_the_command_line(tmp_path, yaml_says, options, round_has):
    (tmp_path / "main.jsonl").write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    written = {
        "base_model": str(TAUGHT), "output_dir": str(tmp_path / "run"), "rl": "dpo", "adapter": "lora",
        "micro_batch_size": 1, "plugins": ["arte_plugin.ArtePlugin"],
        "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
        "arte": {"student": STUDENT, "tasks": [{**SUMS, "questions": {"path": str(tmp_path / "main.jsonl")}}]},
        **yaml_says,
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    cfg = load_cfg(str(tmp_path / "config.yaml"), **options)
    config = raw_config(str(tmp_path / "config.yaml"))
    assert _as_started(config, cfg["arte"]["command_line"] or {}) == {**config, **round_has}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Starts the second round of a run whose first is done; what comes back are the second round's starts so far."""
    starts = []

    def child(log, *arguments):
        starts.append(arguments)
        evaluated = tmp_path / "run/round-2/arte/08-evaluate/results.json"
        evaluated.parent.mkdir(parents=True, exist_ok=True)
        row = {
            "task": "sums", "category": "", "shots": 0, "n": 4, "correct": 1, "accuracy": 0.25, "low": 0.0,
            "high": 1.0, "unparsed": 0,
        }  # fmt: skip
        rows = [{"student": "s", "arm": arm, **row} for arm in ("base", "arte")]
        evaluated.write_text(json.dumps({"results": rows, "held_out": rows}))
        Manifest(tmp_path / "run/round-2/arte/manifest.json").record("align", {}, [Count("pairs", 9, 9)], {}, 0.0)
        return 0

    monkeypatch.setattr(rounds.child, "axolotl", child)

    def start(test=("100 + 1", "101"), kept="", keep_examples=False, **task):
        (tmp_path / "main.jsonl").write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
        (tmp_path / "test.jsonl").write_text(json.dumps({"question": test[0], "answer": test[1]}) + "\n")
        sums = {
            **SUMS, "questions": {"path": str(tmp_path / "main.jsonl")},
            "test_questions": {"path": str(tmp_path / "test.jsonl")}, **task,
        }  # fmt: skip
        block = {"student": {"base_model": str(TAUGHT), "name": "s"}, "tasks": [sums], "rounds": 2}
        if keep_examples:
            block["keep_examples"] = True
            for arm in ("tailored", "unaligned"):
                (tmp_path / "run/arte/06-regenerate").mkdir(parents=True, exist_ok=True)
                write_text(tmp_path / f"run/arte/06-regenerate/{arm}.jsonl", kept)
        run = Run({"base_model": str(TAUGHT), "output_dir": str(tmp_path / "run"), "arte": block})
        run.out.manifest.record("sft", {}, [], {}, 0.0, result={"model": str(TAUGHT), "adapter": None})
        # As in a YAML: what the files of the questions hold is not in it.
        rounds._run_round(run, {"arte": {"rounds": 2}}, 2, run.output_dir, tmp_path / "run/round-2")
        return len(starts)

    monkeypatch.setattr(rounds, "fingerprint_model", lambda folder: "the same aligned teacher")
    return start


def test_a_later_round_is_done_for_the_questions_that_it_was_asked_with(started):
    assert [started(), started()] == [1, 1]
    # A label is put right: the first round is judged anew, and a table with the old second one would mix two test sets.
    assert [started(("100 + 1", "102")), started(("100 + 1", "102"))] == [2, 2]
    assert started(("100 + 2", "102")) == 3
    assert started(("100 + 2", "102"), category="arithmetic") == 4


def test_later_rounds_go_on_with_arte_or_else_with_the_first_arm():
    arms = [["unaligned", "arte"], ["unaligned", "question_only"]]
    assert [check(STUDENT, rounds=2, arms=one).arte.leading_arm for one in arms] == ["arte", "unaligned"]


def test_a_student_is_fine_tuned_from_where_it_says():
    student = check(STUDENT).arte.students[0]
    assert student.to_train is student
    tuned = check({"base_model": "tuned", "trained_from": "base", "trained_from_revision": "abc"}).arte.students[0]
    assert (tuned.to_train.base_model, tuned.to_train.revision, tuned.to_train.name) == ("base", "abc", "tuned")


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_later_rounds_yaml_says_whom_it_trains_and_what_it_keeps(tmp_path, kept, begun):
    (tmp_path / "main.jsonl").write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    block = {
        "student": {"base_model": str(TAUGHT), "name": "s"}, "rounds": 3,
        "tasks": [{**SUMS, "questions": {"path": str(tmp_path / "main.jsonl")}}],
        **({"keep_examples": True} if kept else {}), **({"student_from": "base"} if begun else {}),
    }  # fmt: skip
    config = {"base_model": str(TAUGHT), "output_dir": str(tmp_path / "run"), "arte": block}
    run = Run(copy.deepcopy(config))
    for number in (2, 3):
        before = run.output_dir if number == 2 else run.output_dir / "round-2"
        tuned = {"model": str(before / "tuned"), "adapter": None}
        Manifest(before / "arte/manifest.json").record("sft", {}, [], {}, 0.0, result=tuned)
        config = rounds._next_config(run, config, number, before, run.output_dir / f"round-{number}")
        made = config["arte"]
        assert made["student"]["base_model"] == str(before / "tuned")
        assert made["student"].get("trained_from") == (str(TAUGHT) if begun else None)
        assert made.get("kept_from") == (str(before) if kept else None)
        assert check(made["student"], **{key: made[key] for key in made if key not in ("student", "tasks")})


def test_a_round_is_made_anew_where_what_it_keeps_is_another(started, tmp_path):
    assert started(**{"keep_examples": True, "kept": "one"}) == 1
    assert started(**{"keep_examples": True, "kept": "one"}) == 1
    assert started(**{"keep_examples": True, "kept": "other"}) == 2


def test_every_round_asks_with_seeds_of_its_own():
    rounds = [check(STUDENT, rounds=3, round=number).arte for number in (1, 2, 3)]
    assert rounds[0].sampling_seed == rounds[0].seed
    assert len({one.sampling_seed for one in rounds}) == 3


def test_table_shows_both_accuracies_of_each_round():
    row = {
        "round": 2, "folder": "out/round-2", "pairs": 9,
        "held_out_before": 0.25, "held_out_after": 0.5, "test_before": 0.3, "test_after": 0.4,
    }  # fmt: skip
    assert round_lines([row])[1] == ["2", "out/round-2", "9", "25.0 %", "50.0 %", "30.0 %", "40.0 %"]


def test_a_student_with_an_adapter_goes_on_as_one_model_in_float32(tmp_path):
    torch.manual_seed(0)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(TAUGHT), LoraConfig(target_modules=["q_proj"]))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(TAUGHT).save_pretrained(tmp_path / "adapter")
    _merge_student(TrainedStudent(str(TAUGHT), str(tmp_path / "adapter")), tmp_path / "merged")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert whole.dtype == torch.float32
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(whole(ids).logits, adapted.eval()(ids).logits, atol=1e-4, rtol=1e-4)
