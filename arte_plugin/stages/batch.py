"""The student's batch: as many examples to a step as the recipe has, on however many GPUs."""

from collections.abc import Mapping
from typing import Any

#: Examples to a step (paper, section 4.1), over all processes together.
BATCH = 8

#: Keys of Axolotl by which a YAML has a batch of its own; each of them counts for one process, as ever in Axolotl.
_OWN = ("micro_batch_size", "gradient_accumulation_steps", "batch_size")


def is_own(sft: Mapping[str, Any]) -> bool:
    """Whether `student.sft` says itself how large the batch is."""
    return any(sft.get(key) for key in _OWN)


def processes(sft: Mapping[str, Any], gpus: int) -> int:
    """How many processes fine-tune the student: one on each of `gpus`, or on as many of them as divide the batch."""
    if gpus < 2 or is_own(sft):
        return max(1, gpus)
    together = _together(sft)
    fitting = [n for n in range(together, gpus + 1, together) if BATCH % (n // together) == 0]
    return max(fitting, default=gpus)


def batch(sft: Mapping[str, Any], gpus: int) -> dict[str, int]:
    """Axolotl's keys for the batch, of each process."""
    share = BATCH if is_own(sft) else BATCH // max(1, processes(sft, gpus) // _together(sft))
    return {"micro_batch_size": share, "gradient_accumulation_steps": 1}


def decisive(sft: Mapping[str, Any], gpus: int) -> dict[str, int]:
    """What decides the trained student, over its Axolotl config: the same for as many examples to a step.

    Where `student.sft` says what one process takes, their number counts.
    """
    if not is_own(sft):
        return {"micro_batch_size": BATCH}
    count = processes(sft, gpus)
    return {"processes": count} if count > 1 else {}


def _together(sft: Mapping[str, Any]) -> int:
    """How many processes work on the same examples."""
    return int(sft.get("context_parallel_size") or 1) * int(sft.get("tensor_parallel_size") or 1)
