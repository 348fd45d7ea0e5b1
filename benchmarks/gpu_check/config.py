"""The YAML of a check: `loop.yaml` with the models, the attention, and what a size or a CPU changes."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: One task, few questions. Keys with dots lead into blocks.
SMALL: dict[str, Any] = {
    "arte.elicit.questions": 8,
    "arte.preference_set.size": 6,
    "arte.pair.question_pairs": 4,
    "arte.regenerate.questions": 8,
    "arte.student.sft.num_epochs": 2,
    "arte.student.sft.save_steps": 2,
    "save_steps": 2,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
}
SMALL_TASK: dict[str, Any] = {"validation_questions": 12, "test_questions": 12}

#: The device's keys on a machine without a GPU. bitsandbytes has 4-bit weights there as well, its optimizer not.
CPU: dict[str, Any] = {"bf16": False, "fp16": False, "optimizer": "adamw_torch", "arte.student.dtype": "float32"}


def loop_config(
    device: str, size: str, student: Path, teacher: Path, attention: str, output_dir: Path
) -> dict[str, Any]:
    """A complete config; `device` is `cuda` or `cpu`, `size` `small` or `full`."""
    config = yaml.safe_load((HERE / "loop.yaml").read_text(encoding="utf-8"))
    tasks = config["arte"]["tasks"]
    for task in tasks:
        task["questions"]["path"] = str(ROOT / task["questions"]["path"])
    if size == "small":
        config = changed(config, SMALL)
        config["arte"]["tasks"] = [{**tasks[0], **SMALL_TASK}]
    if device == "cpu":
        config = changed(config, CPU)
    return changed(
        config,
        {
            "base_model": str(teacher.absolute()),
            "arte.student.base_model": str(student.absolute()),
            "attn_implementation": attention,
            "output_dir": str(output_dir.absolute()),
        },
    )


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `config` with `changes`, `{"arte.elicit.questions": 8}`."""
    copied = copy.deepcopy(dict(config))
    for key, value in changes.items():
        *parents, last = key.split(".")
        block = copied
        for parent in parents:
            block = block[parent]
        block[last] = value
    return copied
