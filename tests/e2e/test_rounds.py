"""Two rounds with two students on a user's own CSV: what is tuned with an adapter has to be merged in between."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from arte_plugin.manifest import Manifest
from arte_plugin.rows import Draft, Response, Score, read_rows
from tests.e2e.conftest import ROOT, arte, axolotl

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True, "learning_rate": 1e-3}

#: All that a user has to say about two columns that nobody prepared for ARTE.
TASK = """\
name: truth_values
description: Work out the value of a Boolean expression made of True, False, not, and, or and brackets.
questions: {path: CSV, question: Expression, answer: Value}
seed_questions: 8
validation_questions: 24
test_questions: 6
"""


def test_a_second_round_starts_from_what_the_first_one_made(write_config, tmp_path, taught):
    table = tmp_path / "my table.csv"
    rows = [json.loads(line) for line in (ROOT / "yaml_examples/data/boolean_expressions.jsonl").open()]
    # As a spreadsheet writes it.
    with table.open("w", encoding="utf-8-sig", newline="") as file:
        cells = [[row["question"], row["answer"].upper()] for row in rows]
        csv.writer(file).writerows([["Expression", "Value"], *cells])
    config = write_config(
        {
            "arte.tasks": [yaml.safe_load(TASK.replace("CSV", f"'{table}'"))],
            "arte.student": [
                {"name": "adapted", "base_model": str(taught), "sft": {**LORA, "micro_batch_size": 4}},
                {"name": "whole", "base_model": str(taught), "weight": 3, "sft": {"learning_rate": 1e-3}},
            ],
            "arte.elicit.questions": 6,
            "arte.regenerate.questions": 6,
            "arte.rounds": 2,
            "arte.patience": 2,
            "arte.held_out": 0.5,
            "arte.evaluate.shots": [0],
        },
    )
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = tmp_path / "arte", tmp_path / "arte/round-2"

    made = yaml.safe_load((second / "config.yaml").read_text())
    assert made["base_model"] == str(second / "teacher/merged")
    adapted, whole = made["arte"]["student"]
    assert adapted["base_model"] == str(second / "students/adapted")
    assert whole["base_model"] == str(first / "arte/07-sft/whole/arte/student")
    assert _logits(second / "teacher/merged") == pytest.approx(_logits(taught, first), abs=1e-4)
    assert _logits(second / "teacher/merged") != pytest.approx(_logits(taught), abs=1e-4)
    assert not (second / "students/adapted/adapter_config.json").exists()
    assert made["arte"]["cache"] == str(first / "arte/requests.sqlite")
    assert not (second / "arte/requests.sqlite").exists()

    for folder in (first, second):
        assert (folder / "adapter_model.safetensors").is_file()
        drafts = read_rows(folder / "arte/01-elicit/drafts.jsonl", Draft)
        scores = read_rows(folder / "arte/03-probe/scores.jsonl", Score)
        assert sorted((row.draft_id, row.student) for row in scores) == sorted(
            (draft.draft_id, name) for draft in drafts for name in ("adapted", "whole")
        )
        asked = {row.question_id for row in read_rows(folder / "arte/02-preference-set/responses.jsonl", Response)}
        assert len(asked) == 12
        held_out = [json.loads(line) for line in (folder / "arte/08-evaluate/held-out/lm_eval_tasks").glob("*.jsonl")
                    for line in line.read_text().splitlines()]  # fmt: skip
        assert len(held_out) == 12
        assert not asked & {row["question_id"] for row in held_out}
    teachers = [
        Manifest(folder / "arte/manifest.json").stages()["elicit"].inputs["model"] for folder in (first, second)
    ]
    assert teachers[0] != teachers[1]
    reports = [json.loads((folder / "arte/08-evaluate/results.json").read_text()) for folder in (first, second)]
    for name in ("adapted", "whole"):
        after, before = (
            [row["correct"] for row in report["held_out"] if (row["student"], row["arm"]) == (name, arm)]
            for report, arm in zip(reports, ("arte", "base"), strict=True)
        )
        # The merged student answers as its adapter on the base did.
        assert after == before
    rounds = json.loads((first / "arte/rounds.json").read_text())
    assert [row["round"] for row in rounds] == [1, 2]
    assert rounds[0]["held_out_after"] == rounds[1]["held_out_before"]
    assert "held-out before" in done.stdout

    # Once more: nothing is asked, trained or merged; and the round's own YAML says the same.
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rounds/2 is done already" in done.stdout + done.stderr
    shown = arte("status", str(second / "config.yaml"))
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert "sft/adapted/arte" in shown.stdout


def _logits(model: Path, adapter: Path | None = None) -> list[float]:
    """What a model, with an adapter or without, makes of a few tokens."""
    made = AutoModelForCausalLM.from_pretrained(model)
    if adapter:
        made = PeftModel.from_pretrained(made, adapter)
    with torch.inference_mode():
        return made(torch.arange(3, 40)[None]).logits[0, -1].tolist()
