"""What the top-level config says of the teacher, beyond what Axolotl checks."""

from pathlib import Path
from typing import Any


def check_own_adapter(values: dict[str, Any]) -> None:
    """Raises `ValueError` for a `lora_model_dir` that the run could not start from (`merging`)."""
    folder = values.get("lora_model_dir")
    if not folder:
        return
    if not values.get("adapter"):
        raise ValueError(
            "`lora_model_dir` is the teacher's own adapter, which is merged into the base before anything is asked; a "
            "new one is trained, so say which: `adapter: lora` (or merge it yourself, and train in full)"
        )
    if not (Path(folder).expanduser() / "adapter_config.json").is_file():
        raise ValueError(f"`lora_model_dir`: there is no adapter_config.json in {folder} (seen from {Path.cwd()})")
    arte = values.get("arte")
    source = arte.get("from_run") if isinstance(arte, dict) else getattr(arte, "from_run", None)
    if source:
        raise ValueError(
            "`from_run` has an aligned teacher of its own, on the base that its adapter was merged into: take "
            f"`lora_model_dir` out, and set `base_model: {source}/arte/teacher/merged`"
        )
