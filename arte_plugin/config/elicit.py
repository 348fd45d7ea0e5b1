"""`arte.elicit`: stage 1."""

from typing import Literal

from pydantic import Field

from arte_plugin.config.block import Block

#: Which of the rationales that a teacher has written stay; also in stage 6.
Keep = Literal["all", "agrees_with_target", "majority"]


class ElicitArgs(Block):
    """Stage 1: the teacher drafts questions and rationales (paper, section 3.1)."""

    questions: int = Field(250, ge=1, description="Draft questions a task.")
    seeds_per_prompt: int = Field(3, ge=1, description="Seed questions shown in a question-generation prompt.")
    questions_per_prompt: int = Field(5, ge=1, description="New questions asked for in one call.")
    temperature: float = Field(1.0, ge=0, le=5, description="Sampling temperature of questions.")
    rationale_temperature: float = Field(0.0, ge=0, le=5, description="Sampling temperature of rationales.")
    max_new_tokens: int = Field(
        1024, ge=8, description="Longest reply, in tokens, to a question or a rationale prompt."
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Requests to the teacher at a time, which are stored together. Default: 16, on a GPU all that "
        "there are: one that ends is replaced by the next, and stored as it comes.",
    )
    prefill: bool = Field(
        False,
        description="For small teachers: begin their reply with the next question's tag, and behind a rationale that "
        "ended without an answer begin the answer's tag.",
    )
    keep: Keep = Field(
        "all",
        description="Which rationales become drafts. `all`: as in the paper; `agrees_with_target`: those whose answer "
        "is the one that the teacher claimed with the question; `majority`: those whose answer more of the question's "
        "rationales give than any other, and at least two.",
    )
    worked_examples: bool = Field(
        False,
        description="The teacher, as it was before its alignment, solves each seed question once (greedy, under the "
        "plain prompt). Solutions that reach the target are the examples in few-shot prompts, of respondents and of "
        "the evaluation; seeds that it does not solve are shown only where there are too few others, as bare answers. "
        "Without this, all are. Where the data has worked solutions (`questions.rationale`), these are shown.",
    )
    max_calls: int = Field(
        10, ge=1, description="Give up on questions after so many times the fewest calls that could have been enough."
    )
