"""`arte.preference_set`: stage 2, and the respondents behind its IRT matrix."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from arte_plugin.config.block import Block
from arte_plugin.config.teacher import PromptStyle


class RespondentArgs(Block):
    """A model that answers the validation questions for the IRT matrix."""

    base_model: str = Field(description="Path or Hub id.")
    revision: str | None = Field(None, min_length=1, description="As `student.revision`.")
    shots: list[Annotated[int, Field(ge=0, le=32)]] = Field(
        [0, 1, 2, 3], min_length=1, description="It answers once for each number of examples: so many respondents."
    )
    prompt_style: PromptStyle = Field("auto", description="As `student.prompt_style`.")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="As `student.chat_template_kwargs`.",
    )


def equal_respondents(respondents: Sequence[RespondentArgs]) -> str:
    """What is wrong where one model is asked the same in the same way twice; empty where none is."""
    seen: set[str] = set()
    for one in respondents:
        asked = one.model_dump(exclude={"shots"})
        for shots in one.shots:
            if (key := repr((asked, shots))) in seen:
                return (
                    f"{one.base_model} with `prompt_style: {one.prompt_style}` answers at {shots} shots twice, which "
                    "is one respondent: take one out, or give it other `shots` or another `prompt_style`"
                )
            seen.add(key)
    return ""


class PreferenceSetArgs(Block):
    """Stage 2: the validation questions that tell good drafts from bad ones (paper, section 3.2)."""

    method: Literal["irt", "random", "all"] = Field(
        "irt", description="`irt`: the most discriminating ones by item response theory; `random` and `all`: controls."
    )
    size: int = Field(40, ge=1, description="Questions in the preference set of a task.")
    respondents: list[RespondentArgs] = Field(
        default_factory=list,
        description="Models behind the IRT matrix; default: the student at 0, 1, 2 and 3 shots, or `pilot_drafts`.",
    )
    pilot_drafts: int = Field(
        0,
        ge=0,
        description="So many drafts a task, 30 say, answer all validation questions as respondents: the student with "
        "the draft as its one example, instead of the default respondents and beside those that are given. Stage 3 "
        "does not ask those on the chosen questions again. 0: none, as in the paper; else at least 8.",
    )
    consistency_questions: int = Field(
        0,
        ge=0,
        description="Draft questions a task whose rationales are also probed on the rest of the validation set, to "
        "show how well the preference set stands for it; 0: not checked. A question costs drafts × (validation - size) "
        "probes.",
    )

    @field_validator("pilot_drafts")
    @classmethod
    def _enough_drafts(cls, drafts: int) -> int:
        if 0 < drafts < 8:
            raise ValueError(f"{drafts} drafts can't tell questions apart: take 8 or more, 30 say, or 0 for none")
        return drafts

    @field_validator("respondents")
    @classmethod
    def _respondents_differ(cls, respondents: list[RespondentArgs]) -> list[RespondentArgs]:
        if equal := equal_respondents(respondents):
            raise ValueError(equal)
        return respondents
