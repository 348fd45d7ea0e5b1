"""The YAML of `make gpu-check`, but for its device's keys, on its real models: a 4-bit teacher aligned on a CPU."""

import math

import yaml

from arte_plugin.rows import Draft, TailoredExample, read_rows
from arte_plugin.run.manifest import Manifest
from benchmarks.gpu_check.config import changed, loop_config
from tests.e2e.conftest import axolotl

#: Its smallest size, made smaller.
FEWER = {
    "arte.elicit.questions": 2,
    "arte.elicit.max_new_tokens": 256,
    "arte.probe.max_new_tokens": 40,
    "arte.pair.question_pairs": 1,
    "arte.pair.rationale_pairs": 1,
    "arte.regenerate.questions": 2,
    "arte.student.sft.num_epochs": 1,
    "arte.student.sft.save_strategy": "no",
    "arte.student.sft.save_steps": None,
    "arte.evaluate.shots": [0],
    "arte.evaluate.max_new_tokens": 24,
    "save_strategy": "no",
    "save_steps": None,
}


def test_the_loop_on_the_real_models_with_a_4_bit_teacher(demo_models, tmp_path):
    student = demo_models / "student"
    config = changed(loop_config("cpu", "small", student, demo_models / "teacher", "sdpa", tmp_path / "out"), FEWER)
    config["arte"]["tasks"][0] |= {"validation_questions": 3, "test_questions": 2}
    config["arte"]["preference_set"] = {"size": 2, "respondents": [{"base_model": str(student), "shots": [0, 1]}]}
    path = tmp_path / "smollm2.yaml"
    path.write_text(yaml.safe_dump(config))
    # Under `accelerate launch` the plugin would take all cores, and the test beside this one needs its own.
    done = axolotl("train", str(path), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "out" / "arte"
    drafts = read_rows(folder / "01-elicit/drafts.jsonl", Draft)
    by_question = {
        question: [d.rationale for d in drafts if d.question == question] for question in {d.question for d in drafts}
    }
    # In 4 bits one technique may go round in circles, and be dropped.
    assert all(len(set(rationales)) == len(rationales) >= 3 for rationales in by_question.values())
    examples = read_rows(folder / "06-regenerate/tailored.jsonl", TailoredExample)
    assert examples and all(example.rationale.endswith("</ans>") for example in examples)

    stages = Manifest(folder / "manifest.json").stages()
    assert list(stages)[-1] == "evaluate"
    drafting, aligned = (stages[stage].inputs["model"] for stage in ("elicit", "regenerate"))
    assert drafting["quantisation"]["load_in_4bit"] and drafting["quantisation"] == aligned["quantisation"]
    assert drafting["adapter"] is None and aligned["adapter"]
    # DPO begins where policy and reference are one: its loss is log 2.
    assert f"loss {math.log(2):.3f}" in stages["align"].counts[0].note
    assert "95 % interval" in done.stdout
