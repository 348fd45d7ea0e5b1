"""Which of Axolotl's preference trainings the teacher's may be (`rl`), and what to write instead of another."""

from typing import Any

_ENDS = (
    "its trainer in TRL tokenises pairs by itself and ends every reply, also a question behind which the teacher is to "
    "go on, and it has no reference to measure the alignment against"
)

#: What `rl` can't be, why, and what to write instead.
_INSTEAD = {
    "ipo": "IPO is one of DPO's losses: write `rl: dpo` and `dpo_loss_type: [ipo]`",
    "simpo": f"{_ENDS}. Nearest to it: `rl: dpo`, `dpo_loss_type: [sigmoid_norm]`",
    "orpo": f"{_ENDS}. Nearest to it: `rl: dpo`, `dpo_loss_type: [sigmoid_norm, sft]`, `dpo_loss_weights: [1.0, 0.1]`",
    "kto": "it wants single replies, each called good or bad, and a pair says only which of two is better. Nearest "
    "to it: `rl: dpo`, `dpo_loss_type: [bco_pair]`",
}


def check_rl(values: Any) -> None:
    """Raises `ValueError` where the teacher's training is not by DPO, whichever its loss (docs/recipes.md)."""
    rl = getattr(values.get("rl"), "value", values.get("rl"))
    if rl == "dpo":
        return
    why = f". `rl: {rl}` can't be: {_INSTEAD[rl]} (docs/recipes.md, preference losses)" if rl in _INSTEAD else ""
    raise ValueError(f"ARTE aligns the teacher with DPO: set `rl: dpo` (found {rl!r}){why}")
