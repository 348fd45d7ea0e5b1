"""The loop with a 4-bit teacher, and a student whose training fails at first.

bitsandbytes has a CPU path, so a GPU run's YAML works here but for device keys.
"""

import json

from arte_plugin.manifest import Manifest
from tests.e2e.conftest import axolotl

QLORA = {"adapter": "qlora", "load_in_4bit": True}


def test_qlora_teacher_goes_through_the_loop_and_a_failing_student_loses_nothing(write_config, tmp_path):
    config = write_config({**QLORA, "arte.student.sft.optimizer": "no_such_optimizer"})
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 1
    assert "The student's fine-tuning ended with exit code 1" in done.stderr
    assert "no_such_optimizer" in done.stderr
    folder = tmp_path / "arte" / "arte"
    tailored = (folder / "06-regenerate/tailored.jsonl").read_bytes()
    stages = Manifest(folder / "manifest.json").stages()
    assert list(stages) == ["elicit", "preference-set", "probe", "pair", "align", "regenerate"]
    for stage in ("elicit", "regenerate"):
        model = stages[stage].inputs["model"]
        # The teacher is generated from as it is trained.
        assert model["quantisation"] == {"load_in_4bit": True}
    assert stages["elicit"].inputs["model"]["adapter"] is None
    assert stages["regenerate"].inputs["model"]["adapter"]
    assert json.loads((tmp_path / "arte/adapter_config.json").read_text())["peft_type"] == "LORA"

    # Put right, the run goes on with the student.
    done = axolotl("train", str(write_config(QLORA)), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    after = Manifest(folder / "manifest.json").stages()
    assert {name: after[name] for name in stages} == stages
    assert (folder / "06-regenerate/tailored.jsonl").read_bytes() == tailored
    assert "95 % interval" in done.stdout
