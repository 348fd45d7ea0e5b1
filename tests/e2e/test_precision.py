"""Axolotl trains a student in bfloat16: with float32 weights below, its updates are kept; without, most are not."""

import pytest

from arte_plugin.args import StudentArgs
from arte_plugin.rows import TailoredExample, write_rows
from arte_plugin.stages import sft

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
