"""Whether a rationale's answer agrees with what else is known of its question (Learning by Teaching, 2406.14629, M2).

M2 scores a rationale half by whether it is right and half by what students learn of it. Whether a
draft is right nobody knows: its question is the teacher's own. Agreement stands in for it, which is not the same. A
teacher that makes one mistake twice agrees with itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.language import answers
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import Draft, Measure, PreferenceQuestion
from arte_plugin.signals.settings import SignalSettings


class AgreementArgs(SignalSettings):
    """Settings of `agreement`."""

    against: Literal["target", "rationales"] = Field(
        "target",
        description="What a rationale's answer is held against. `target`: the answer that the teacher claimed when it "
        "wrote the question; `rationales`: the answers of the question's other rationales, and the value is the share "
        "of these that are the same.",
    )


class Agreement:
    """Whether the rationale ends in the claimed target, or how many of the other rationales end where it does.

    Value and raw value are the same, 0..1. It is read off, not estimated, so its interval has no width; n is the
    number of answers that it was held against. A question's only rationale has nothing to agree with but the target.
    """

    Settings: ClassVar[type[Block]] = AgreementArgs
    costs: ClassVar[str] = "nothing"
    version: ClassVar[int] = 1
    of: ClassVar[Literal["draft", "question"]] = "draft"

    def __init__(self, settings: AgreementArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """None."""
        return ()

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure]:  # fmt: skip
        """One measure for each draft that there is something to hold against."""
        by_question: defaultdict[str, list[Draft]] = defaultdict(list)
        for draft in drafts:
            by_question[draft.question_id].append(draft)
        for draft in drafts:
            others = [draft.target]
            if self.settings.against == "rationales":
                others = [one.answer for one in by_question[draft.question_id] if one is not draft]
            if not others:
                continue
            share = sum(answers.same(draft.answer, other, task.args.answer) for other in others) / len(others)
            yield Measure(
                "agreement", "draft", draft.draft_id, task.name, asking.student.name, share, share, len(others),
                share, share,
            )  # fmt: skip
