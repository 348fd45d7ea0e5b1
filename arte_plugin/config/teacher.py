"""`arte.teacher`: how the teacher is asked; and what the top-level config says of it, beyond what Axolotl checks."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from arte_plugin.config.block import Block

#: How a model is asked: the teacher, a student or another respondent.
PromptStyle = Literal["auto", "plain", "chat"]


class TeacherArgs(Block):
    """How the teacher is asked. The model itself is the top-level `base_model`."""

    reasoning: bool | Literal["auto"] = Field(
        "auto",
        description="Whether the teacher thinks before it writes. Its thoughts are cut off before anything is read, "
        "and neither shown nor trained on. `auto`: where its chat template opens a thought and can't be told not to.",
    )
    reasoning_tokens: int = Field(
        4096, ge=16, description="Longest thought, in tokens; what was not thought to its end by then is dropped."
    )
    prompt_style: PromptStyle = Field("auto", description="As `student.prompt_style`.")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="As `student.chat_template_kwargs`.",
    )


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
