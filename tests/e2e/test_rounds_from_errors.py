"""LLM2LLM's rounds: questions like those that the student gets wrong, the base fine-tuned on all examples so far."""

import json

import yaml

from arte_plugin.data.same_question import comparable
from arte_plugin.rows import TailoredExample, read_rows
from arte_plugin.run.manifest import Manifest
from tests.e2e.conftest import arte, axolotl


def test_a_second_round_trains_the_base_on_all_examples_so_far(write_config, tmp_path, taught):
    from_errors = {
        "name": "from_errors", "questions": "unaligned", "rationales": "unaligned",
        "plan": ["paper", {"errors": {"origin": ["seed", "draft"], "questions": 3, "seeds_shown": 3}}],
        "operators": [{"similar_question": {"show_answer": True}}],
    }  # fmt: skip
    config = write_config(
        {
            "arte.arms": [from_errors, "unaligned"],
            "arte.rounds": 2,
            "arte.patience": 2,
            "arte.held_out": 0.5,
            "arte.student_from": "base",
            "arte.keep_examples": True,
            "arte.elicit.questions": 6,
            "arte.regenerate.questions": 6,
            "arte.evaluate.shots": [0],
        }
    )
    planned = arte("plan", str(config))
    assert planned.returncode == 0 and "attempts" in planned.stdout, planned.stderr[-3000:] + planned.stdout
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = tmp_path / "arte", tmp_path / "arte/round-2"

    made = yaml.safe_load((second / "config.yaml").read_text())["arte"]
    assert made["kept_from"] == str(first)
    # What is asked is the student that the leading arm left; what is fine-tuned is the one of the beginning.
    assert made["student"]["base_model"].startswith(str(first / "arte/07-sft/from_errors"))
    assert made["student"]["trained_from"] == str(taught)
    stages = [Manifest(folder / "arte/manifest.json").stages() for folder in (first, second)]
    trained = [one["sft/from_errors"].inputs["student"] for one in stages]
    assert trained[0] == trained[1]
    probed = [json.dumps(one["probe"].inputs, sort_keys=True) for one in stages]
    assert trained[0] in probed[0] and trained[0] not in probed[1]

    for arm in ("from_errors", "unaligned"):
        rows = [read_rows(folder / f"arte/06-regenerate/{arm}.jsonl", TailoredExample) for folder in (first, second)]
        assert rows[0] and rows[1][: len(rows[0])] == rows[0] and len(rows[1]) > len(rows[0])
        questions = [comparable(row.question) for row in rows[1]]
        assert len(set(questions)) == len(questions)
        assert [one[f"sft/{arm}"].counts[0].made for one in stages] == [len(rows[0]), len(rows[1])]
    # Which order a question came of is told.
    assert all(row.origin for row in read_rows(first / "arte/06-regenerate/from_errors.jsonl", TailoredExample))
    results = [json.loads((folder / "arte/08-evaluate/results.json").read_text()) for folder in (first, second)]
    assert {row["arm"] for row in results[0]["held_out"]} == {"base", "from_errors"}
    rounds = json.loads((first / "arte/rounds.json").read_text())
    assert rounds[0]["held_out_after"] == rounds[1]["held_out_before"]

    # Once more: nothing is asked or trained, and the round's own YAML says the same.
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rounds/2 is done already" in done.stdout + done.stderr
    shown = arte("status", str(second / "config.yaml"))
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert "kept from the rounds before" in shown.stdout
