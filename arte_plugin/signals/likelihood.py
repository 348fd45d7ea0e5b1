"""How likely the student finds the right answers: the paper's score without anything being written.

Not in the paper, whose score is the share of right answers that the student writes. What is measured, and how well it
goes with the paper's score, is in `docs/fewer-calls.md`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Likelihood, Reply
from arte_plugin.language import prompts
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asked, Asking, Evidence
from arte_plugin.rows import AnswerLikelihood, Draft, Measure, PreferenceQuestion, wilson
from arte_plugin.signals.settings import SignalSettings

#: Tokens of an answer between its tags.
BARE = 8


class LikelihoodArgs(SignalSettings):
    """Settings of `likelihood`."""

    rationale: bool = Field(
        True, description="Whether the student is shown the draft's rationale, or its bare answer in that place."
    )


class AnswerLikelihoods:
    """The mean probability of the preference questions' right answers, with the draft as the one example.

    The prompt is that of the probes; the reply begins with the answer's tag straight away, and what is weighed is the
    answer and the tag that ends it: `True</ans>`. Value and raw value are the mean, 0..1. The interval is Wilson's for
    that many right answers, which is wide: probabilities spread less than answers do.
    """

    Settings: ClassVar[type[Block]] = LikelihoodArgs
    costs: ClassVar[str] = "the student: a pass for each draft with each preference question; nothing is written"
    version: ClassVar[int] = 1
    of: ClassVar[Literal["draft", "question"]] = "draft"
    likelihoods: ClassVar[bool] = True

    def __init__(self, settings: LikelihoodArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """Every draft with every preference question; a draft's own part is read once."""
        of, calls = sizes.student, sizes.drafts * sizes.size
        shared = of.chat_before + of.before + of.question + of.frame + self._shown(of.rationale)
        own = of.question + of.frame + of.chat_behind
        yield Work(
            "probe", "likelihoods", "student", calls, calls * (shared + own), sizes.drafts * shared + calls * own, 0.0
        )

    def _shown(self, rationale: float) -> float:
        return rationale if self.settings.rationale else BARE

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure | AnswerLikelihood]:  # fmt: skip
        """The likelihoods, and a measure of each draft."""
        plan = [(draft, question) for draft in drafts for question in preference_set]
        replies = [self.reply(task, draft, question, asking.student) for draft, question in plan]
        found = asking.likelihoods(asking.student, replies, f"likelihoods {task.name}")
        rows = answer_likelihoods(plan, found, asking.student.name)
        yield from rows
        yield from means(rows)

    def reply(self, task: Task, draft: Draft, question: PreferenceQuestion, student: Asked) -> Reply:
        """What the student is shown, and the right answer behind it."""
        example = draft.rationale
        if not self.settings.rationale:
            example = f"{prompts.ANSWER_BEGIN}{draft.answer}{prompts.ANSWER_END}"
        shown = prompts.solve_prompt(
            task.args.description, task.args.answer, question.question, [(draft.question, example)]
        )
        return Reply(
            prompt=student.renderer.prompt(shown, prefill=prompts.ANSWER_BEGIN),
            text=f"{question.target}{prompts.ANSWER_END}",
            group=draft.draft_id,
        )


def answer_likelihoods(
    plan: Sequence[tuple[Draft, PreferenceQuestion]], found: Sequence[Likelihood], student: str
) -> list[AnswerLikelihood]:
    """The rows that a student's likelihoods make."""
    return [
        AnswerLikelihood(
            draft_id=draft.draft_id,
            preference_id=question.preference_id,
            task=draft.task,
            student=student,
            log_probability=one.log_probability,
            tokens=one.tokens,
        )
        for (draft, question), one in zip(plan, found, strict=True)
    ]


def means(rows: Sequence[AnswerLikelihood]) -> Iterator[Measure]:
    """The measure of each draft and student."""
    by_draft: dict[tuple[str, str], list[AnswerLikelihood]] = {}
    for row in rows:
        by_draft.setdefault((row.draft_id, row.student), []).append(row)
    for (draft_id, student), of_draft in by_draft.items():
        total, n = sum(math.exp(row.log_probability) for row in of_draft), len(of_draft)
        low, high = wilson(total, n)
        yield Measure("likelihood", "draft", draft_id, of_draft[0].task, student, total / n, total / n, n, low, high)
