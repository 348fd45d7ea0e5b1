"""Axolotl trains a student in bfloat16: with float32 weights below, its updates are kept; without, most are not."""

import pytest

from arte_plugin.config.student import StudentArgs
from arte_plugin.rows import TailoredExample, write_rows
from arte_plugin.run.manifest import Manifest
from arte_plugin.stages import fine_tuning as sft
from tests.e2e.conftest import arte

TEACHER = {"bf16": True, "attn_implementation": "sdpa", "sequence_len": 128, "dataset_num_proc": 1}


#: The plugin has the Trainer take bfloat16 on a CPU; float32 weights are another key's business.
BARE = {"bf16": True, "plugins": ["arte_plugin.Float32Weights"]}


@pytest.mark.parametrize(("own", "kept"), [({}, True), (BARE, False)], ids=["float32-weights", "bare-bf16"])
def test_share_of_weights_that_change(own, kept, taught, tmp_path):
    tailored = tmp_path / "tailored.jsonl"
    words = ["True or False", "not True", "False and True", "(True or False) and not True"]
    rows = [TailoredExample("t", one, "True", f"{one} <ans>True</ans>", "True", f"Question: {one}") for one in words]
    write_rows(tailored, rows)
    student = StudentArgs(base_model=str(taught), sft={"micro_batch_size": 4, "save_strategy": "no", **own})
    config = sft.student_config(TEACHER, student, tailored, tmp_path / "07-sft", seed=1)
    assert config["learning_rate"] == 2e-5
    trained = sft.train(config, tmp_path / "07-sft")
    assert 0 < trained.change["relative"] < 1e-2
    assert (trained.change["changed"] > 0.8) == kept
    assert (trained.change["changed"] < 0.5) == (not kept)


def test_a_teacher_trained_in_full_by_steps_that_bfloat16_would_lose(write_config, tmp_path):
    in_full = dict.fromkeys(("adapter", "lora_r", "lora_alpha", "lora_target_linear")) | {"learning_rate": 1e-6}
    bare = arte("validate", str(write_config({**in_full, "bf16": True}, "bare")))
    assert bare.returncode == 1
    assert "The teacher would hardly change" in bare.stderr
    plugins = ["arte_plugin.ArtePlugin", "arte_plugin.Float32Weights"]
    whole = write_config({**in_full, "plugins": plugins})
    done = arte("align", str(whole), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    aligned = Manifest(tmp_path / "arte/arte/manifest.json").stages()["align"]
    assert aligned.result["change"]["changed"] > 0.8
    assert "of them changed" in aligned.counts[0].note
    assert aligned.result["recipe"] == {"lr_scheduler": "cosine", "warmup_ratio": 0.1}
