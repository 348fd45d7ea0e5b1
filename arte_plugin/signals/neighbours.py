"""The paper's score on the preference questions nearest to the draft's own (Learning by Teaching, 2406.14629, M1).

M1 examines the student on problems very like the one that the rationale is for: an example teaches
what is near to it. Where a task mixes several kinds of question, a draft is worth little for the others. On a task of
one kind all are as near, and fewer answers only widen the interval.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import Draft, Measure, PreferenceQuestion, wilson
from arte_plugin.signals.settings import SignalSettings

if TYPE_CHECKING:
    import numpy as np

#: Words, and signs by themselves: in `not ( True )` a letter or a bracket may be all that there is.
TOKEN = r"(?u)\w+|[^\w\s]"


class NeighboursArgs(SignalSettings):
    """Settings of `neighbours`."""

    nearest: int = Field(
        10, ge=1, description="Preference questions that count for a draft: those nearest to its own question."
    )


class Neighbours:
    """The share answered right of the `nearest` preference questions, those most like the draft's own.

    Near is the cosine of TF-IDF vectors of words, over the task's preference and draft questions together; of questions
    as near as one another, those that come first in the preference set. Value and raw value are the share, 0..1, with
    Wilson's interval. With as many as the preference set has, it is `answers`.
    """

    Settings: ClassVar[type[Block]] = NeighboursArgs
    costs: ClassVar[str] = "the probes, which `answers` needs as well"
    version: ClassVar[int] = 1
    of: ClassVar[Literal["draft", "question"]] = "draft"
    probes: ClassVar[bool] = True

    def __init__(self, settings: NeighboursArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """None beyond the probes."""
        return ()

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure]:  # fmt: skip
        """One measure for each draft that was probed."""
        if not drafts or not preference_set:
            return
        right: dict[str, dict[str, bool]] = {draft.draft_id: {} for draft in drafts}
        for probe in evidence.probes():
            if probe.draft_id in right:
                right[probe.draft_id][probe.preference_id] = probe.outcome == "correct"
        questions = {draft.question_id: draft.question for draft in drafts}
        near = closeness(list(questions.values()), [one.question for one in preference_set])
        order = dict(zip(questions, (-near).argsort(axis=1, kind="stable"), strict=True))
        for draft in drafts:
            ids = [preference_set[place].preference_id for place in order[draft.question_id]]
            of_draft = right[draft.draft_id]
            counted = [of_draft[name] for name in ids if name in of_draft][: self.settings.nearest]
            if not counted:
                continue
            share, n = sum(counted) / len(counted), len(counted)
            low, high = wilson(sum(counted), n)
            yield Measure(
                "neighbours", "draft", draft.draft_id, task.name, asking.student.name, share, share, n, low, high
            )


def closeness(texts: Sequence[str], others: Sequence[str]) -> "np.ndarray":
    """The cosine of the TF-IDF vectors of each of `texts` and each of `others`: texts × others, 0..1."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    found = TfidfVectorizer(token_pattern=TOKEN).fit_transform([*texts, *others])
    return (found[: len(texts)] @ found[len(texts) :].T).toarray()
