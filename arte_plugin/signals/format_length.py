"""A control: a score from form and length alone, without any model. A signal that tells something must beat it.

Format and length alone make a reward that a model can be trained on with some success (Surrogate Signals from Format
and Length, arXiv 2505.19439), so what a signal adds to them is what it is worth. The formula is ours.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.language import prompts
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import Draft, Measure, PreferenceQuestion
from arte_plugin.signals.settings import SignalSettings


class FormatLengthArgs(SignalSettings):
    """Settings of `format_length`."""

    length: float = Field(0.5, ge=0, le=1, description="How much length counts; the rest is form.")
    best: int | None = Field(
        None, ge=1, description="The length that scores highest, in characters. Default: the median of the task's."
    )
    spread: float = Field(
        0.5, gt=0, description="How fast the score falls off from there, in natural logarithms of the length."
    )


class FormatLength:
    """A control: form and length of the rationale, and no model. A signal that tells something must beat it.

    length · exp(-ln(characters / best)² / (2 spread²)) + (1 - length) · form, with `length` and the others from the
    settings. Form is the share that holds of: one answer tag and no more; nothing behind it; more than one sentence or
    line before it. Value and raw value are the same, 0..1. It is read off: no width of interval, n is 1.
    """

    Settings: ClassVar[type[Block]] = FormatLengthArgs
    costs: ClassVar[str] = "nothing"
    version: ClassVar[int] = 1
    of: ClassVar[Literal["draft", "question"]] = "draft"

    def __init__(self, settings: FormatLengthArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """None."""
        return ()

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure]:  # fmt: skip
        """One measure for each draft."""
        if not drafts:
            return
        best = self.settings.best or median(len(draft.rationale) for draft in drafts)
        share = self.settings.length
        for draft in drafts:
            off = math.log(max(1, len(draft.rationale)) / best)
            length = math.exp(-(off**2) / (2 * self.settings.spread**2))
            value = share * length + (1 - share) * form(draft.rationale)
            yield Measure(
                "format_length", "draft", draft.draft_id, task.name, asking.student.name, value, value, 1, value, value
            )


def form(rationale: str) -> float:
    """The share of the three marks of a well-formed rationale that it has."""
    before, _, behind = rationale.partition(prompts.ANSWER_BEGIN)
    held = (
        rationale.count(prompts.ANSWER_BEGIN) == rationale.count(prompts.ANSWER_END) == 1,
        not behind.partition(prompts.ANSWER_END)[2].strip(" .\n"),
        len([part for part in re.split(r"\n+|[.!?]\s", before) if part.strip()]) > 1,
    )
    return sum(held) / len(held)
