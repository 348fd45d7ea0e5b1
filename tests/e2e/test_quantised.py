"""The loop with a 4-bit teacher: bitsandbytes has a CPU path, so a GPU run's YAML works here but for device keys."""

import json

from arte_plugin.manifest import Manifest
from tests.e2e.conftest import axolotl


def test_qlora_teacher_goes_through_the_loop(write_config, tmp_path):
    config = write_config({"adapter": "qlora", "load_in_4bit": True})
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "arte" / "arte"
    stages = Manifest(folder / "manifest.json").stages()
    for stage in ("elicit", "regenerate"):
        model = stages[stage].inputs["model"]
        # The teacher is generated from as it is trained.
        assert model["quantisation"] == {"load_in_4bit": True}
    assert stages["elicit"].inputs["model"]["adapter"] is None
    assert stages["regenerate"].inputs["model"]["adapter"]
    assert json.loads((tmp_path / "arte/adapter_config.json").read_text())["peft_type"] == "LORA"
    assert "95 % interval" in done.stdout
