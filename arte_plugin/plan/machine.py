"""How a training run, and a model that writes, see the machine: out of Axolotl's keys."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arte_plugin.plan.shapes import INT8, NF4, NF4_DOUBLE

#: Bytes of a GPU's memory that weights may take if the model is to write there, of one with 80 GB (`placement`).
ROOM = 0.8 * 80e9


@dataclass(frozen=True)
class Setup:
    """How a training run sees the machine, out of Axolotl's keys."""

    dtype: str
    #: Autocast: logits are turned into float32 behind the model.
    mixed: bool
    attention: str
    #: Weights, gradients and optimizer lie in pieces on so many devices.
    pieces: int
    zero3: bool
    offloads: bool


def setup_of(cfg: Mapping[str, Any], gpus: int) -> Setup:
    """Of the teacher's training, or the student's, by its Axolotl keys."""
    from arte_plugin.plan import stand_ins

    half = "bfloat16" if cfg.get("bf16") or cfg.get("bfloat16") else "float16" if _half(cfg) else "float32"
    flash = "flash" in str(cfg.get("attn_implementation") or "") or cfg.get("flash_attention")
    zero = _deepspeed(cfg)
    stage = int(zero.get("stage", 0) or 0)
    pieces = gpus if stage == 3 or cfg.get("fsdp") or cfg.get("fsdp_config") or cfg.get("fsdp_version") else 1
    return Setup(
        dtype=half,
        mixed=(bool(cfg.get("bf16") or cfg.get("fp16")) or has_float32_weights(cfg)) and not zero,
        attention=stand_ins.GROUPED if flash else stand_ins.REPEATED,
        pieces=pieces,
        zero3=stage == 3,
        offloads=str((zero.get("offload_optimizer") or {}).get("device", "none")) != "none",
    )


def has_float32_weights(cfg: Mapping[str, Any]) -> bool:
    """Whether float32 weights are computed with in bfloat16 (`Float32Weights`)."""
    return "arte_plugin.Float32Weights" in (cfg.get("plugins") or [])


def writing_dtype(cfg: Mapping[str, Any]) -> str:
    """The precision that a teacher trained by these keys writes in, on a GPU: that in which its training computes."""
    return "bfloat16" if has_float32_weights(cfg) else setup_of(cfg, 1).dtype


def writes_on(weights: float, pieces: int) -> int:
    """GPUs that a teacher with so many bytes of weights lies on as it writes, where its training is in `pieces`.

    That is one process, which has it on one GPU if that holds it, and else on all (`placement.device_map`).
    """
    return 1 if weights <= ROOM else pieces


def _half(cfg: Mapping[str, Any]) -> bool:
    return bool(cfg.get("fp16") or cfg.get("float16"))


def _deepspeed(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `zero_optimization` block of the DeepSpeed config, if there is one to be read."""
    content = cfg.get("deepspeed")
    if isinstance(content, str) and Path(content).is_file():
        content = json.loads(Path(content).read_text(encoding="utf-8"))
    return content.get("zero_optimization") or {} if isinstance(content, Mapping) else {}


def packing(cfg: Mapping[str, Any]) -> float | None:
    """Bytes of a weight in a linear layer where Axolotl quantises it: with QLoRA and LoRA only."""
    if cfg.get("load_in_4bit") and cfg.get("adapter") == "qlora":
        double = (cfg.get("bnb_config_kwargs") or {}).get("bnb_4bit_use_double_quant", True)
        return NF4_DOUBLE if double else NF4
    if cfg.get("load_in_8bit") and cfg.get("adapter") == "lora":
        return INT8
    return None


def accumulates(cfg: Mapping[str, Any]) -> bool:
    """Whether gradients are summed over several steps, so that those of the step before are there."""
    return int(cfg.get("gradient_accumulation_steps") or 1) > 1
