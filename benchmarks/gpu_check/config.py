"""The YAML of a check: `loop.yaml` with the models, the attention, and what a size or a CPU changes."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: The ways in which a teacher is loaded and trained, and what each changes in `loop.yaml`; None takes a key out.
LOOPS: dict[str, dict[str, Any]] = {
    "qlora": {},
    # In 16 bits, where Axolotl may leave the model on the CPU.
    "lora": {"adapter": "lora", "load_in_4bit": None, "bnb_config_kwargs": None, "optimizer": "adamw_torch"},
    # All weights, with an attention that has Axolotl leave embeddings and norms in float32. The lowest rate that is not
    # refused in bfloat16: what is looked at here is how the teacher is loaded, and writes.
    "full": {
        "adapter": None, "load_in_4bit": None, "bnb_config_kwargs": None, "optimizer": "adamw_torch",
        "learning_rate": 1e-5, "attn_implementation": "sdpa",
    },
}  # fmt: skip

#: Of these the first is of the size that is asked for, started without accelerate's launcher; the others are small, and
#: started as `axolotl train` is by default.
FIRST = "qlora"

#: One task, few questions. Keys with dots lead into blocks.
SMALL: dict[str, Any] = {
    "arte.elicit.questions": 8,
    "arte.preference_set.size": 6,
    "arte.pair.question_pairs": 4,
    "arte.regenerate.questions": 8,
    "arte.student.sft.save_steps": 2,
    "save_steps": 2,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
}
SMALL_TASK: dict[str, Any] = {"validation_questions": 12, "test_questions": 12}

#: The device's keys on a machine without a GPU. bitsandbytes has 4-bit weights there as well, its optimizer not.
CPU: dict[str, Any] = {"bf16": False, "fp16": False, "optimizer": "adamw_torch", "arte.student.dtype": "float32"}


def loop_config(
    device: str, size: str, student: Path, teacher: Path, attention: str, output_dir: Path, loop: str = FIRST
) -> dict[str, Any]:
    """A complete config of one of `LOOPS`; `device` is `cuda` or `cpu`, `size` `small` or `full`."""
    config = yaml.safe_load((HERE / "loop.yaml").read_text(encoding="utf-8"))
    tasks = config["arte"]["tasks"]
    for task in tasks:
        task["questions"]["path"] = str(ROOT / task["questions"]["path"])
    if size == "small" or loop != FIRST:
        config = changed(config, SMALL)
        config["arte"]["tasks"] = [{**tasks[0], **SMALL_TASK}]
    if device == "cpu":
        config = changed(config, CPU)
    config = changed(
        config,
        {
            "base_model": str(teacher.absolute()),
            "arte.student.base_model": str(student.absolute()),
            "attn_implementation": attention,
            "output_dir": str(output_dir.absolute()),
            **LOOPS[loop],
        },
    )
    return {key: value for key, value in config.items() if value is not None}


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
