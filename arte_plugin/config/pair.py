"""`arte.pair`: stage 4."""

from pydantic import Field, model_validator

from arte_plugin.pairings.best_worst import BestWorstArgs


class PairArgs(BestWorstArgs):
    """Stage 4: preference pairs (paper, section 3.3)."""

    question_pairs: int = Field(50, ge=0, description="Question-level pairs a task.")
    rationale_pairs: int = Field(250, ge=0, description="Rationale-level pairs a task, at most.")
    margin: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Chosen and rejected must differ by more than this in score. Ties never make a pair.",
    )
    drafts: str | None = Field(
        None, description="A published `drafts.jsonl`: pairs are made from it and no model is asked."
    )
    scores: str | None = Field(None, description="The `scores.jsonl` that goes with `drafts`.")

    @model_validator(mode="after")
    def _both_or_none(self) -> "PairArgs":
        if (self.drafts is None) != (self.scores is None):
            raise ValueError("`drafts` and `scores` go together: give both or neither")
        if self.question_pairs + self.rationale_pairs == 0:
            raise ValueError("`question_pairs` and `rationale_pairs` are both 0, so there is nothing to align with")
        return self
