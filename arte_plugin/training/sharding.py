"""Sharded training (FSDP, DeepSpeed) beside commands that run in one process and need the teacher's weights whole."""

import os
from collections.abc import Mapping
from typing import Any

from arte_plugin.errors import StageError

#: Keys that spread a training over GPUs.
KEYS = ("deepspeed", "deepcompile", "fsdp", "fsdp_config", "fsdp_version")


def switched_off(cfg: Mapping[str, Any]) -> dict[str, None]:
    """What to load a config with (`load_cfg(path, **overrides)`), so that one process gets the whole teacher.

    Told of sharding, Axolotl would start a process group and leave the weights' placement to the trainer.
    """
    return {key: None for key in KEYS if cfg.get(key) is not None}


def as_in_one_process(training: Mapping[str, Any], world_size: int) -> dict[str, Any]:
    """The keys that a training depends on, whatever number of processes it is spread over.

    A teacher trained by eight of them is the one that a command in one process goes on with.
    """
    kept = {key: value for key, value in training.items() if key not in KEYS}
    if {"batch_size", "micro_batch_size", "gradient_accumulation_steps"} <= kept.keys():
        # Axolotl multiplies it by the number of processes.
        kept["batch_size"] = kept["micro_batch_size"] * kept["gradient_accumulation_steps"]
    if kept.get("dataloader_num_workers") == world_size:
        # Axolotl's default: as many as there are processes.
        kept["dataloader_num_workers"] = 1
    return kept


def refuse_zero3() -> None:
    """Raises `StageError` where DeepSpeed would hand out a model in pieces, which can't write by itself."""
    if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        raise StageError(
            "Under DeepSpeed ZeRO-3 the teacher lies in pieces on all GPUs and can't be asked. Run the stages apart, "
            "with this YAML: `arte pair` (up to the pairs, one process), `arte align` (the training, all GPUs), `arte "
            "evaluate` (the rest, one process). What is done is kept."
        )
