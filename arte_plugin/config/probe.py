"""`arte.probe`: stage 3."""

from typing import Literal

from pydantic import Field, model_validator

from arte_plugin.config.block import Block
from arte_plugin.config.signals import Score


class RacingArgs(Block):
    """How `budget: racing` spends its probes. See `docs/fewer-calls.md`."""

    first: int = Field(
        12,
        ge=1,
        description="Preference questions that every draft is probed on to begin with; about a third of them is good.",
    )
    step: int = Field(4, ge=1, description="Preference questions more for a draft that is probed further.")
    share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="At most this share of drafts × preference questions is probed, once all have their `first`.",
    )
    confidence: float = Field(
        1.0,
        ge=0.5,
        le=1,
        description="A draft is settled, and probed no further, when its part in the pairs is as sure as this; 1: the "
        "whole `share` is spent.",
    )


class ProbeArgs(Block):
    """Stage 3: the student answers the preference set with each draft as its one example (paper, section 3.2)."""

    max_new_tokens: int = Field(256, ge=8, description="Longest answer, in tokens; of the respondents too.")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Probes in a batch: what a rank takes, and stores, at a time. How many of them are in flight "
        "together, `engine.cache_gib` decides. Default: 160, on a GPU all that a rank has to answer: one that ends is "
        "replaced by the next, and stored as it comes.",
    )
    budget: Literal["full", "racing"] = Field(
        "full",
        description="`full`: every draft on every preference question, as in the paper; `racing`: only where it is "
        "open who gets into the preference pairs.",
    )
    racing: RacingArgs = Field(default_factory=RacingArgs, description="For `budget: racing`.")
    score: Score = Field(
        "answers",
        description="A draft's score, s_r, in short; `signals` says more. `answers`: the share of right answers, as in "
        "the paper; `likelihood`: how likely the student finds the right answers with the draft as its example, "
        "without writing anything; `likelihood_without_rationale`: the same, with the draft's answer in the place of "
        "its rationale.",
    )

    ask_again: bool = Field(
        False,
        description="A reply without an answer that can be read is continued with the answer's tag begun, in probes, "
        "for respondents and in the evaluation alike: scores then tell less of the form and more of the content. Not "
        "in the paper.",
    )
    min_readable: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Stop when less than this share of the first 5 % of a task's probes (100 at least) has an answer "
        "that can be read; 0: go on whatever they say.",
    )

    @model_validator(mode="after")
    def _racing_counts_answers(self) -> "ProbeArgs":
        if self.budget == "racing" and self.score != "answers":
            raise ValueError("`budget: racing` goes with `score: answers` only: likelihoods are cheap, ask for all")
        return self
