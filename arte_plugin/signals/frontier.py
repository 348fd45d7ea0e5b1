"""Questions at the edge of what the student can do (Socratic-Zero, arXiv 2509.24726)."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Draft, Measure, PreferenceQuestion, Question, wilson
from arte_plugin.signals.settings import SignalSettings

LOG = logging.getLogger(LOGGER)


class FrontierArgs(SignalSettings):
    """Settings of `frontier`."""

    samples: int = Field(8, ge=1, description="Sampled attempts of the student at each draft question.")
    temperature: float = Field(0.7, gt=0, le=5, description="Their sampling temperature.")
    mean: float = Field(0.5, ge=0, le=1, description="The success rate that is worth most.")
    sd: float = Field(0.2, gt=0, description="How fast worth falls off from there, in success rate.")


class Frontier:
    """How near the student's own success rate at a draft question is to one half: its worth as an exercise.

    U = exp(-(s - mean)² / (2 sd²)) of the rate s over its sampled attempts. Raw is s, the value U, both 0..1; the
    interval is what U takes over Wilson's interval of s. Success is held against the target that the teacher claims:
    where that is wrong, a question looks harder than it is. It is a score of questions, s_q; rationales keep theirs.
    """

    Settings: ClassVar[type[Block]] = FrontierArgs
    costs: ClassVar[str] = "the student: `samples` replies to each draft question"
    version: ClassVar[int] = 1
    of: ClassVar[Literal["draft", "question"]] = "question"

    def __init__(self, settings: FrontierArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """`samples` attempts a draft question."""
        of, calls = sizes.student, sizes.questions * self.settings.samples
        prompt = of.chat + of.before + of.question + of.frame
        yield Work(
            "probe", "attempts", "student", calls, calls * prompt, calls * prompt, calls * of.reply, calls * of.reply
        )

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure]:  # fmt: skip
        """One measure for each draft question."""
        questions = {
            draft.question_id: Question(draft.question_id, task.name, draft.question, draft.target) for draft in drafts
        }
        outcomes: defaultdict[str, list[bool]] = defaultdict(list)
        unparsed = 0
        for attempt in asking.attempts(
            asking.student, task, list(questions.values()),
            samples=self.settings.samples, temperature=self.settings.temperature, greedy=False,
        ):  # fmt: skip
            outcomes[attempt.question_id].append(attempt.outcome == "correct")
            unparsed += attempt.outcome == "unparsed"
        if 2 * unparsed > len(questions) * self.settings.samples:
            LOG.warning(
                "frontier: task %s: %d of %d attempts of %s have no answer that can be read, and count as failures: "
                "the success rate says less of what the student can do than of the form. `probe.ask_again: true` has "
                "it asked for its answer",
                task.name, unparsed, len(questions) * self.settings.samples, asking.student.name,
            )  # fmt: skip
        for name, right in outcomes.items():
            rate, n = sum(right) / len(right), len(right)
            low, high = self._over(*wilson(sum(right), n))
            yield Measure(
                "frontier", "question", name, task.name, asking.student.name, self.worth(rate), rate, n, low, high
            )

    def worth(self, rate: float) -> float:
        """U of a success rate."""
        return math.exp(-((rate - self.settings.mean) ** 2) / (2 * self.settings.sd**2))

    def _over(self, low: float, high: float) -> tuple[float, float]:
        """The least and the most of U over these success rates: it has one peak."""
        ends = self.worth(low), self.worth(high)
        return min(ends), 1.0 if low <= self.settings.mean <= high else max(ends)
