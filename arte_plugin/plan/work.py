"""What a plan counts: how much of everything a task has, and the calls that come of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from arte_plugin.plan.lengths import ASSUMED, Lengths


class Speed(Protocol):
    """Tokens a second of one GPU: of prompts, and of replies with many of them in flight."""

    @property
    def prompts(self) -> float: ...  # noqa: D102

    @property
    def replies(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Work:
    """Calls of one kind; tokens are of all of them together."""

    stage: str
    what: str
    #: `teacher` or `student`: whose rates count.
    who: str
    calls: float
    asked: float
    computed: float
    #: New tokens as expected, and if every reply were as long as it may be.
    new: float
    most: float = 0.0

    def times(self, factor: float) -> "Work":
        """So many times as much."""
        calls, asked, computed = self.calls * factor, self.asked * factor, self.computed * factor
        return replace(
            self, calls=calls, asked=asked, computed=computed, new=self.new * factor, most=self.most * factor
        )

    def hours(self, rate: Speed) -> float:
        """GPU-hours at this rate."""
        return (self.computed / rate.prompts + self.new / rate.replies) / 3600


@dataclass(frozen=True)
class Sizes:
    """How much of everything one task has, and the lengths of its texts."""

    questions: int
    techniques: int
    validation: int
    size: int
    #: Numbers of examples, one for each respondent.
    shots: Sequence[int]
    #: Tailored examples; a mean over tasks may have a fraction.
    examples: float
    teacher: Lengths = ASSUMED
    student: Lengths = ASSUMED
    test: int = 0
    held_out: int = 0
    #: Seed questions that come without a worked solution.
    seeds: int = 0
    #: All of them.
    seed_questions: int = 0

    @property
    def drafts(self) -> int:
        """Questions × techniques."""
        return self.questions * self.techniques
