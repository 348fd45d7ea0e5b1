"""Stage 7b for real: the tuned student's own DPO through `axolotl train`, killed, resumed and evaluated beside it."""

import json
import time

import yaml
from safetensors.torch import load_file

from arte_plugin.language import prompts
from arte_plugin.rows import Attempt, PreferencePair, TailoredExample, read_rows
from arte_plugin.run.manifest import Manifest
from tests.e2e.conftest import arte, axolotl, start

#: A checkpoint a step, and enough steps for it to be killed on the way.
DPO = {
    "pairing": {"right_over_wrong": {"samples": 4, "per_question": 4}},
    "learning_rate": 1e-4,
    "num_epochs": 6,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "save_steps": 1,
}


def test_the_tuned_students_own_dpo_goes_on_where_it_was_killed_and_is_evaluated_beside_it(write_config, tmp_path):
    config = write_config({"arte.student.dpo": DPO})
    folder = tmp_path / "arte" / "arte"
    mine = folder / "07b-student-dpo"
    process = start("axolotl", "train", str(config), "--launcher", "python", log=tmp_path / "first.log")
    until = time.monotonic() + 400
    while not any((mine / "student").glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < until, (tmp_path / "first.log").read_text()[-3000:]
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = Manifest(folder / "manifest.json").stages()
    assert "sft" in before and "student-dpo" not in before

    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    stages = Manifest(folder / "manifest.json").stages()
    assert stages["student-dpo"].usage["asked"] == 0, "attempts were asked again"
    assert "checkpoint-" in (mine / "train.log").read_text(), "the training began anew"

    # What it was trained on.
    attempts, pairs = read_rows(mine / "attempts.jsonl", Attempt), read_rows(mine / "pairs.jsonl", PreferencePair)
    outcome = {one.attempt_id: one.outcome for one in attempts}
    examples = {one.prompt: one for one in read_rows(folder / "06-regenerate/tailored.jsonl", TailoredExample)}
    assert pairs and len(attempts) == 4 * len(examples)
    for pair in pairs:
        assert outcome[pair.rejected_id] == "wrong"
        assert outcome.get(pair.chosen_id) == "correct" or pair.chosen == examples[pair.prompt].rationale.strip()
        assert pair.chosen.endswith(prompts.ANSWER_END) and pair.rejected.endswith(prompts.ANSWER_END)
    child = yaml.safe_load((mine / "student.yaml").read_text())
    assert (child["rl"], child["base_model"]) == ("dpo", str((folder / "07-sft/student").absolute()))
    tuned, trained = (load_file(one / "student/model.safetensors") for one in (folder / "07-sft", mine))
    assert any(not tuned[name].equal(trained[name]) for name in tuned)
    assert stages["student-dpo"].result["change"]["relative"] > 0

    # Who it is in the tables.
    report = json.loads((folder / "08-evaluate/results.json").read_text())
    assert {row["arm"] for row in report["results"]} == {"base", "arte", "arte+dpo"}
    shown = {(row["first"], row["second"]): row["shows"] for row in report["comparisons"]}
    assert shown["arte", "arte+dpo"] == "the student's own DPO" and ("arte+dpo", "arte") not in shown
    assert "arte+dpo" in (folder / "08-evaluate/results.md").read_text()

    # And all of it is done.
    finished = {name: one.finished for name, one in stages.items()}
    assert axolotl("train", str(config), "--launcher", "python").returncode == 0
    assert {name: one.finished for name, one in Manifest(folder / "manifest.json").stages().items()} == finished
    assert "student-dpo" in arte("status", str(config)).stdout
