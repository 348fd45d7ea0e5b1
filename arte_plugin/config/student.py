"""`arte.student`: the student, or several."""

import re
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from arte_plugin.config.block import Block
from arte_plugin.config.sft import check_sft_keys
from arte_plugin.config.student_dpo import check_dpo
from arte_plugin.config.teacher import PromptStyle


class StudentArgs(Block):
    """The student: the model that will be deployed."""

    name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=80,
        description="Name of the student in files and tables; default: the last part of `base_model`.",
    )
    base_model: str = Field(description="Path or Hub id of the student.")
    revision: str | None = Field(
        None,
        min_length=1,
        description="Branch, tag or commit on the Hub; default: the newest. The teacher's is the top-level "
        "`revision_of_model`.",
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="How much this student's preference counts where there are several: a draft's score is the mean "
        "over students with these weights.",
    )
    prompt_style: PromptStyle = Field(
        "auto",
        description="`chat`: prompts go through the chat template; `plain`: they don't; `auto`: if there is one, and "
        "the model is no base model that merely brings it along (`arte validate` says which, and why).",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="What the chat template is given beside the messages, such as `{reasoning_effort: low}`. A thought "
        "that the template can switch off is off; to switch it on is refused, for only a teacher can think "
        "(`teacher.reasoning`).",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Precision for probing and evaluation; `auto` is bfloat16 on a GPU that has it, else float32.",
    )
    attn_implementation: str | None = Field(
        None, description="Attention for probing; default: the top-level `attn_implementation`."
    )
    trust_remote_code: bool = Field(False, description="Run code that comes with the student's checkpoint.")
    sft: dict[str, Any] = Field(
        default_factory=dict, description="Any Axolotl keys for the student's fine-tuning, over the paper's recipe."
    )
    trained_from: str | None = Field(
        None,
        min_length=1,
        description="The model that the fine-tuning starts from, if it is another than `base_model`, which is probed "
        "and evaluated. The plugin writes it into later `rounds` with `student_from: base`.",
    )
    trained_from_revision: str | None = Field(None, min_length=1, description="Its `revision`.")

    dpo: dict[str, Any] = Field(
        default_factory=dict,
        description="Stage 7b, the tuned student's own DPO, evaluated beside it as ARM+dpo: `pairing`, "
        "`right_over_wrong` or `teacher_over_student` (docs/strategies.md), and any Axolotl keys for the training. Its "
        "reference is the tuned student; later `rounds` go on with that one. Default: none, as in the paper.",
    )

    @field_validator("sft")
    @classmethod
    def _leaves_ours(cls, sft: dict[str, Any]) -> dict[str, Any]:
        check_sft_keys(sft)
        return sft

    @field_validator("dpo")
    @classmethod
    def _dpo_can_come_about(cls, dpo: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if dpo:
            check_dpo(dpo, info.data.get("sft") or {})
        return dpo

    @model_validator(mode="after")
    def _keeps_its_template(self) -> "StudentArgs":
        given = sorted({"chat_template", "chat_template_jinja"} & self.sft.keys())
        if given and self.prompt_style != "plain":
            raise ValueError(
                f"`sft.{given[0]}` would train the student behind other prompts than it is probed with. Put the "
                "template into the student's own folder (chat_template.jinja), or set `prompt_style: plain`"
            )
        return self

    @model_validator(mode="after")
    def _named(self) -> "StudentArgs":
        if not self.name:
            # Files are named after it.
            self.name = re.sub(r"[^A-Za-z0-9_.-]", "-", PurePath(self.base_model).name).lstrip("_.-") or "student"
        return self

    @property
    def to_train(self) -> "StudentArgs":
        """Whom the fine-tuning starts from."""
        if self.trained_from is None:
            return self
        return self.model_copy(update={"base_model": self.trained_from, "revision": self.trained_from_revision})


def _how_many(students: Any) -> str:
    return SEVERAL if isinstance(students, list) else ONE


#: Pydantic names these in the place of an error (`check` leaves them out).
TAGS = ONE, SEVERAL = "one", "several"
Students = Annotated[
    Annotated[StudentArgs, Tag(ONE)] | Annotated[list[StudentArgs], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(_how_many),
]
