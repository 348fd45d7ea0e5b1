"""Two rounds with two students on a user's own CSV: what is tuned with an adapter has to be merged in between."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from arte_plugin.rows import Draft, Response, Score, read_rows
from arte_plugin.run.manifest import Manifest
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
            "arte.align.check": True,
            "arte.held_out": 0.5,
            "arte.evaluate.shots": [0],
        },
    )
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = tmp_path / "arte", tmp_path / "arte/round-2"

    made = yaml.safe_load((second / "config.yaml").read_text())
    # Nothing is merged for the teacher: its training goes on from the adapter.
    assert (made["base_model"], made["lora_model_dir"]) == (str(taught), str(first))
    assert not (second / "teacher").exists()
    adapted, whole = made["arte"]["student"]
    assert adapted["base_model"] == str(second / "students/adapted")
    assert whole["base_model"] == str(first / "arte/07-sft/whole/arte/student")
    step, apart = _update(first), _update(second, first)
    assert 0 < apart < 2 * step
    stages = [Manifest(folder / "arte/manifest.json").stages() for folder in (first, second)]
    # What wrote the second round's drafts, and is its control, is what the first one aligned.
    assert stages[0]["elicit"].inputs["model"]["adapter"] is None
    aligned = stages[0]["regenerate"].inputs["model"]
    assert stages[1]["elicit"].inputs["model"]["adapter"] == aligned["adapter"] != None  # noqa: E711
    assert stages[1]["align"].result["change"]["relative"] == pytest.approx(apart, rel=1e-3)
    # The same seeds would be shown in the same calls, and a teacher that hardly moved would write the same again.
    assert stages[0]["elicit"].inputs["seed"] != stages[1]["elicit"].inputs["seed"]
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
    # Each round's teacher is checked against the one that it started from.
    assert all(report["alignment"]["rationales"]["n"] > 0 for report in reports)
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


def _update(adapter: Path, start: Path | None = None) -> float:
    """|ΔW| / |W| of an adapter, or of the way from one to another, by PEFT's own product."""
    moved = whole = 0.0
    layers = [_layers(folder) for folder in (adapter, start) if folder]
    for name, layer in layers[0].items():
        delta = layer.get_delta_weight("default")
        if start:
            delta = delta - layers[1][name].get_delta_weight("default")
        moved += float(delta.square().sum())
        whole += float(layer.base_layer.weight.square().sum())
    return (moved / whole) ** 0.5


def _layers(adapter: Path) -> dict[str, Any]:
    base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    return {name: one for name, one in model.named_modules() if hasattr(one, "lora_B")}
