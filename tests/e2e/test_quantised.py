"""The loop with a 4-bit teacher that comes with an adapter of its own, and a student whose training fails at first.

bitsandbytes has a CPU path, so a GPU run's YAML works here but for device keys.
"""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from arte_plugin.models.identity import fingerprint_model
from arte_plugin.run.manifest import Manifest
from tests.e2e.conftest import axolotl

QLORA = {"adapter": "qlora", "load_in_4bit": True}


@pytest.fixture
def own_adapter(taught, tmp_path):
    """An adapter as a user's own training leaves it, of another rank than the one that will be trained."""
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(taught),
        LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.01)
    model.save_pretrained(tmp_path / "own")
    return tmp_path / "own"


def test_qlora_teacher_goes_through_the_loop_and_a_failing_student_loses_nothing(
    write_config, tmp_path, taught, own_adapter
):
    teacher = {**QLORA, "lora_model_dir": str(own_adapter), "arte.align.check": True}
    config = write_config({**teacher, "arte.student.sft.optimizer": "no_such_optimizer"})
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 1
    assert "The student's fine-tuning ended with exit code 1" in done.stderr
    assert "no_such_optimizer" in done.stderr
    folder = tmp_path / "arte" / "arte"
    tailored = (folder / "06-regenerate/tailored.jsonl").read_bytes()
    stages = Manifest(folder / "manifest.json").stages()
    assert list(stages) == ["elicit", "preference-set", "probe", "pair", "align", "align-check", "regenerate"]

    # The teacher's own adapter is merged, and from then on the whole is the teacher.
    merged = folder / "teacher/merged"
    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(taught), own_adapter).merge_and_unload()
    there = dict(AutoModelForCausalLM.from_pretrained(merged).named_parameters())
    for name, weights in whole.named_parameters():
        torch.testing.assert_close(there[name], weights)
    for stage in ("elicit", "regenerate"):
        model = stages[stage].inputs["model"]
        # The teacher is generated from as it is trained.
        assert model["quantisation"] == {"load_in_4bit": True}
        assert model["model"] == fingerprint_model(str(merged))
    assert stages["elicit"].inputs["model"]["adapter"] is None
    assert stages["regenerate"].inputs["model"]["adapter"]
    adapter = json.loads((tmp_path / "arte/adapter_config.json").read_text())
    assert (adapter["peft_type"], adapter["r"]) == ("LORA", 4)
    assert adapter["base_model_name_or_path"] == str(merged)

    # Put right, the run goes on with the student.
    done = axolotl("train", str(write_config(teacher)), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    after = Manifest(folder / "manifest.json").stages()
    assert {name: after[name] for name in stages} == stages
    assert (folder / "06-regenerate/tailored.jsonl").read_bytes() == tailored
    assert "95 % interval" in done.stdout
