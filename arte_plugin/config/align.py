"""`arte.align`: how the alignment is checked."""

from pydantic import Field, model_validator

from arte_plugin.config.block import Block

#: New questions of a check, at most, if the YAML doesn't say.
CHECK_QUESTIONS = 40
#: Validation questions that a rationale is shown with, at most: as many as the paper has outside of its preference set.
VALIDATION = 60
#: Pairs of a task that were trained on, at most, to stand beside those that were not.
TRAINED = 50


class AlignArgs(Block):
    """Between stages 5 and 6: did the training move the teacher, and does the student like what it writes now?"""

    check: bool = Field(
        True,
        description="Ask the teacher as it was and as it is now the same questions, and show the student what both "
        "wrote. See `docs/align-check.md`.",
    )
    held_out: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="Share of the pairs that the teacher isn't trained on, to check it with. Pairs that share a "
        "question go together, so that no question is on both sides. None are held out where it would be fewer than 5. "
        "The paper: 0.",
    )
    check_questions: int | None = Field(
        None,
        ge=1,
        description="New questions a task that both teachers answer. Each costs two probes for every validation "
        "question outside of the preference set, of which at most 60 are asked. Default: 40, or `elicit.questions` "
        "where that is fewer.",
    )
    require_change: float | None = Field(
        None,
        gt=0,
        le=1,
        description="End the run before stage 6 where the aligned teacher answers a smaller share of these questions "
        "otherwise than before; with `from_run`, by that run's check.",
    )

    def questions(self, drafted: int) -> int:
        """How many new questions a task the teachers are asked, where `drafted` are asked for in stage 1."""
        return self.check_questions or min(CHECK_QUESTIONS, drafted)

    @model_validator(mode="after")
    def _somebody_looks(self) -> "AlignArgs":
        if self.require_change is not None and not self.check:
            raise ValueError(
                "`require_change` is held against what the check finds, and `check: false` leaves it out: take out one "
                "of them"
            )
        return self
