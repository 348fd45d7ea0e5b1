"""Which Axolotl keys `student.sft` can't have, because stage 7 sets them."""

from collections.abc import Mapping
from typing import Any

#: What stage 7 decides itself; another value in `student.sft` would train something else than the loop goes on with.
_OURS = (
    "base_model", "revision_of_model", "datasets", "output_dir", "dataset_prepared_path", "rl", "arte",
    # A rationale that is cut has lost its answer; stage 7 counts what is too long as dropped.
    "excess_length_strategy",
)  # fmt: skip


def check_sft_keys(sft: Mapping[str, Any]) -> None:
    """Raises `ValueError` where `sft` sets a key that ARTE must set itself."""
    if clash := [key for key in _OURS if key in sft]:
        raise ValueError(f"can't set {', '.join(clash)}: ARTE sets that itself. Take it out")
