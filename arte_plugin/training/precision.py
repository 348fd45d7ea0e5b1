"""The precision of the student's full fine-tuning: one in which its updates are not rounded away."""

import importlib.util
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import ConfigError
from arte_plugin.models import gpus_seen
from arte_plugin.ranks import LOGGER
from arte_plugin.training import child
from arte_plugin.training.sharding import KEYS as SHARDING

LOG = logging.getLogger(LOGGER)

#: Axolotl's keys for the precision.
_PRECISION = ("bf16", "fp16", "bfloat16", "float16", "float32")

#: Of a GPU's memory, what a training may be planned to take.
_USABLE = 0.92

#: Float32 weights, bfloat16 arithmetic. The plugin stands beside those that the YAML gives the student.
AUTOCAST = "arte_plugin.Float32Weights"
FLOAT32_WEIGHTS: dict[str, Any] = {"bf16": False, "fp16": False, "plugins": [AUTOCAST]}

#: AdamW in bfloat16 that sums up what is rounded away (Kahan), by torch-optimi. Its second moment is in bfloat16 too,
#: where a decay of 0.999 would stand still: half a step of the format is a five-hundredth.
KAHAN: dict[str, Any] = {"optimizer": "optimi_adamw", "adam_beta2": 0.99}


def keeps_updates(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Keys over `config`, a student's Axolotl config, for a full fine-tuning whose updates are kept.

    `bf16: true` has Axolotl load the weights in bfloat16 and AdamW step on those, which at the recipe's 2e-5 loses most
    of the update. Float32 weights under autocast where they fit into the GPU; else Kahan summation where torch-optimi
    is installed; else a warning. Nothing over `given`, what the YAML says itself (`student.sft`).
    """
    keys = wanted(config, given)
    if not keys:
        return {}
    room, need = _memory(), _need({**config, **keys})
    if room is None or need is None or need <= _USABLE * room:
        return keys
    sizes = f"float32 weights would take {need / 2**30:.0f} GiB of this GPU's {room / 2**30:.0f}"
    if "optimizer" not in given and importlib.util.find_spec("optimi"):
        LOG.info("the student is trained in bfloat16, with Kahan summation: %s", sizes)
        return {key: value for key, value in KAHAN.items() if key not in given}
    LOG.warning(
        "the student is trained in bfloat16, where most of a small update is rounded away: %s. `pip install "
        "arte-plugin[kahan]` for Kahan summation in no more memory, or set `arte.student.sft.adapter: lora`, or an "
        "8-bit `arte.student.sft.optimizer`, with which float32 weights take less.",
        sizes,
    )
    return {}


def check_installed(students: Iterable[StudentArgs]) -> None:
    """Raises `ConfigError` for an optimizer that would only be missed in stage 7."""
    for student in students:
        if str(student.sft.get("optimizer") or "").startswith("optimi_") and not importlib.util.find_spec("optimi"):
            raise ConfigError(
                f"`arte.student.sft.optimizer: {student.sft['optimizer']}` needs a package that is not installed: `pip "
                'install "arte-plugin[kahan]"`.'
            )


def wanted(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`FLOAT32_WEIGHTS` for a training of all weights that `config` would do in bfloat16; else nothing."""
    kept = str(config.get("optimizer") or "").startswith("optimi_") or any(config.get(key) for key in SHARDING)
    if config.get("adapter") or kept or any(key in given for key in _PRECISION):
        return {}
    if config.get("bf16") == "auto" and not child.has_bf16():
        return {}
    if not (config.get("bf16") or config.get("bfloat16")):
        return {}
    others = [plugin for plugin in given.get("plugins") or [] if plugin != AUTOCAST]
    return FLOAT32_WEIGHTS | {"plugins": [*others, AUTOCAST]}


def _memory() -> int | None:
    """Bytes of the smallest GPU here; None without one."""
    return min(gpus_seen.seen().memory, default=None)


def _need(config: Mapping[str, Any]) -> float | None:
    """Bytes of each GPU that the training takes at the most; None for a model whose config.json is not here."""
    from arte_plugin.plan import shapes
    from arte_plugin.plan.training_memory import training_need

    try:
        shape = shapes.shape_of(str(config["base_model"]), shapes.find_config(str(config["base_model"])))
    except shapes.NotHere:
        return None
    longest = int(config["sequence_len"])
    return training_need("", shape, config, max(1, child.gpus()), longest, dpo=False).most
