"""The paper's own score, s_r: the share of preference questions that the student answers right (eq. 1 and 3)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import Draft, Measure, PreferenceQuestion, wilson
from arte_plugin.signals.settings import SignalSettings


class Answers:
    """The share of preference questions answered right with the draft as the one example: the paper's s_r.

    Value and raw value are that share, 0..1; an answer that can't be read is not right. The interval is Wilson's.
    """

    Settings: ClassVar[type[Block]] = SignalSettings
    costs: ClassVar[str] = "the student: each draft with each preference question (the probes)"
    version: ClassVar[int] = 1
    of: ClassVar[Literal["draft", "question"]] = "draft"
    probes: ClassVar[bool] = True

    def __init__(self, settings: SignalSettings) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """None beyond the probes."""
        return ()

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure]:  # fmt: skip
        """One measure for each draft that was probed."""
        asked = dict.fromkeys((draft.draft_id for draft in drafts), 0)
        right = dict(asked)
        for probe in evidence.probes():
            if probe.draft_id in asked:
                asked[probe.draft_id] += 1
                right[probe.draft_id] += probe.outcome == "correct"
        for draft_id, n in asked.items():
            if n:
                share = right[draft_id] / n
                low, high = wilson(right[draft_id], n)
                yield Measure("answers", "draft", draft_id, task.name, asking.student.name, share, share, n, low, high)
