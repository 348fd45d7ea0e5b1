"""How hard the student finds it to follow a question, and to guess it (Selective Reflection-Tuning, 2402.10110)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import Draft, Measure, PreferenceQuestion
from arte_plugin.signals import difficulty
from arte_plugin.signals.settings import SignalSettings


class IfdArgs(SignalSettings):
    """Settings of `ifd` and `reversed_ifd`."""

    ratio: difficulty.Ratio = Field(
        "perplexity",
        description="Of what it is the ratio. `perplexity`: as in Selective Reflection-Tuning; `loss`: of their "
        "logarithms, as in Cherry LLM. Both reach 1 together. A rationale that repeats its question makes the question "
        "all but certain, so that the ratio of perplexities is near 0 for all drafts and adds nothing to a mix: that "
        "of losses tells them apart.",
    )


class Ifd:
    """How little of the rationale the student has from the question alone: instruction-following difficulty.

    IFD = ppl(rationale | question) / ppl(rationale) under the student (2402.10110). Raw is the ratio; the value is the
    same: the higher, the more there is to learn. From 1 on the question is no help, which the paper takes for a
    rationale that belongs to another question and leaves out: such a draft has no measure. Nothing is drawn or sampled,
    so the interval has no width and n is 1. A high IFD also marks a wrong or odd rationale: mix it with `agreement`.
    """

    Settings: ClassVar[type[Block]] = IfdArgs
    costs: ClassVar[str] = "the student: two passes a draft"
    version: ClassVar[int] = 1
    of: ClassVar[Literal["draft", "question"]] = "draft"
    likelihoods: ClassVar[bool] = True

    def __init__(self, settings: IfdArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """Two passes a draft: the rationale behind its question, and alone."""
        of, drafts = sizes.student, sizes.drafts
        tokens = drafts * (of.chat + of.before + of.question + of.frame + of.rationale)
        tokens += drafts * (of.chat + of.rationale)
        yield Work("probe", "likelihoods for IFD", "student", 2 * drafts, tokens, tokens, 0.0)

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure]:  # fmt: skip
        """One measure for each draft whose IFD is below 1."""
        pairs = [(draft.question, draft.rationale) for draft in drafts]
        found = difficulty.ifd(asking, asking.student, task, pairs, self.settings.ratio)
        for draft, raw in zip(drafts, found, strict=True):
            if raw < 1:
                yield Measure("ifd", "draft", draft.draft_id, task.name, asking.student.name, raw, raw, 1, raw, raw)


class ReversedIfd:
    """How well the student can guess the question from the rationale.

    r-IFD = ppl(question | rationale) / ppl(question) under the student (2402.10110). Raw is the ratio: the lower, the
    better the rationale fits its question. The value is 1 - raw; from 1 on the rationale says nothing of the question,
    and such a draft has no measure. No interval, as with `ifd`.
    """

    Settings: ClassVar[type[Block]] = IfdArgs
    costs: ClassVar[str] = "the student: a pass a draft, and one a question"
    version: ClassVar[int] = 1
    of: ClassVar[Literal["draft", "question"]] = "draft"
    likelihoods: ClassVar[bool] = True

    def __init__(self, settings: IfdArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """A pass a draft, its question behind the rationale; and one a question, alone."""
        of, drafts, questions = sizes.student, sizes.drafts, sizes.questions
        tokens = drafts * (of.chat + of.frame + of.rationale + of.question) + questions * (of.chat + of.question)
        yield Work("probe", "likelihoods for reversed IFD", "student", drafts + questions, tokens, tokens, 0.0)

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure]:  # fmt: skip
        """One measure for each draft whose reversed IFD is below 1."""
        pairs = [(draft.question, draft.rationale) for draft in drafts]
        found = difficulty.reversed_ifd(asking, asking.student, task, pairs, self.settings.ratio)
        for draft, raw in zip(drafts, found, strict=True):
            if raw < 1:
                value, name = 1 - raw, asking.student.name
                yield Measure("reversed_ifd", "draft", draft.draft_id, task.name, name, value, raw, 1, value, value)
