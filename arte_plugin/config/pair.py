"""`arte.pair`: stage 4."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from arte_plugin.config.block import Block
from arte_plugin.config.plugs import Chosen, chosen
from arte_plugin.pairings.best_worst import BestWorstArgs

DEFAULT = "best_worst"


class RepeatArgs(Block):
    """How often a pair stands among the rows that are trained on (scaled Bradley-Terry, arXiv 2410.01257)."""

    step: float = Field(0.15, gt=0, le=1, description="A pair stands there once for each step of its gap, rounded up.")
    most: int = Field(3, ge=2, le=20, description="And so many times at most.")


class PairArgs(BestWorstArgs):
    """Stage 4: preference pairs (paper, section 3.3)."""

    pairing: str | dict[str, Any] = Field(
        DEFAULT,
        description="Which pairs follow from the scores (docs/strategies.md). `best_worst`, whose settings are "
        "`quantile`, `min_probability` and `equal_answers` here; another is named, or `{name: {its settings}}`.",
    )
    question_pairs: int = Field(50, ge=0, description="Question-level pairs a task.")
    rationale_pairs: int = Field(250, ge=0, description="Rationale-level pairs a task, at most.")
    margin: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Chosen and rejected must differ by more than this in score. Ties never make a pair.",
    )
    repeat: RepeatArgs | None = Field(
        None,
        description="A pair stands several times among the rows that are trained on, the wider its gap the more often, "
        "as if its loss had that weight. It counts as one pair. Default: each once, as in the paper.",
    )
    drafts: str | None = Field(
        None, description="A published `drafts.jsonl`: pairs are made from it and no model is asked."
    )
    scores: str | None = Field(None, description="The `scores.jsonl` that goes with `drafts`.")

    @property
    def strategy(self) -> Chosen:
        """The pairing. The settings of `best_worst` are these themselves."""
        found = chosen("pairings", self.pairing)
        return Chosen(found.point, found.name, found.kind, self) if found.name == DEFAULT else found

    @property
    def identity(self) -> dict[str, Any]:
        """What of a pairing other than the default one the pairs depend on."""
        return {} if self.strategy.name == DEFAULT else {"pairing": self.strategy.identity}

    @field_validator("pairing")
    @classmethod
    def _is_one_for_the_teacher(cls, entry: Any) -> Any:
        found = chosen("pairings", entry)
        if found.name == DEFAULT:
            if entry not in (DEFAULT, {DEFAULT: None}, {DEFAULT: {}}):
                raise ValueError(
                    f"the settings of `{DEFAULT}` are keys of `arte.pair` itself: `pair.quantile` and so on"
                )
            return DEFAULT
        if found.kind.trains != "teacher":  # type: ignore[attr-defined]
            raise ValueError(f"`{found.name}` makes pairs for the student: it goes into `student.dpo.pairing`")
        return entry

    @model_validator(mode="after")
    def _settings_are_the_pairings(self) -> "PairArgs":
        if self.pairing != DEFAULT:
            fields = BestWorstArgs.model_fields
            given = [key for key in fields if getattr(self, key) != fields[key].default]
            if given:
                raise ValueError(
                    f"`{given[0]}` is a setting of `pairing: {DEFAULT}`, and `pairing` is {self.strategy.name!r}, "
                    "whose own settings stand behind its name: `pairing: {name: {key: value}}`"
                )
        return self

    @model_validator(mode="after")
    def _both_or_none(self) -> "PairArgs":
        if (self.drafts is None) != (self.scores is None):
            raise ValueError("`drafts` and `scores` go together: give both or neither")
        if self.question_pairs + self.rationale_pairs == 0:
            raise ValueError("`question_pairs` and `rationale_pairs` are both 0, so there is nothing to align with")
        return self
