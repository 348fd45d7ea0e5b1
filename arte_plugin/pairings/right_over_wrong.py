"""The student's right attempts over its wrong ones (Socratic-Zero, arXiv 2509.24726, section 3)."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.language import answers
from arte_plugin.pairings import attempts
from arte_plugin.pairings.attempts import AttemptsArgs, dropped, of_questions, paired
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Bounds, Evidence, Scored
from arte_plugin.rows import Draft, Dropped, PreferencePair


class RightOverWrongArgs(AttemptsArgs):
    """Settings of `right_over_wrong`."""

    per_question: int = Field(
        1, ge=1, description="Pairs a question at most, of right and wrong attempts drawn by chance."
    )
    reference: bool = Field(
        True,
        description="Where every attempt is wrong, the teacher's rationale is chosen over one, if its answer is "
        "the target.",
    )


class RightOverWrong:
    """Of a tailored question, attempts of the tuned student that reach the target over those that don't.

    The target is the teacher's claim: where that is wrong, so is the pair. Attempts without an answer that can be read
    make none. Questions with only right attempts make none; see `reference` for those with only wrong ones.
    """

    Settings: ClassVar[type[Block]] = RightOverWrongArgs
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "the tuned student: `samples` replies to each tailored question, of each arm and seed"
    trains: ClassVar[Literal["teacher", "student"]] = "student"

    def __init__(self, settings: RightOverWrongArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """The attempts."""
        return attempts.calls(self.settings.samples, sizes)

    def pairs(
        self, task: str, drafts: Sequence[Draft], scored: Scored, evidence: Evidence, bounds: Bounds,
        rng: random.Random,
    ) -> Iterator[PreferencePair | Dropped]:  # fmt: skip
        """As `Pairing.pairs`."""
        for question, example, tried in of_questions(evidence):
            kept, lost = attempts.readable(tried, question)
            yield from lost
            right = [(one.attempt_id, text) for one, text in kept if one.outcome == "correct"]
            wrong = [(one.attempt_id, text) for one, text in kept if one.outcome == "wrong"]
            if not wrong:
                yield dropped("none_wrong" if right else "none_readable", question)
                continue
            if not right:
                if not self.settings.reference:
                    yield dropped("none_right", question)
                    continue
                if not (bounds.answer and answers.same(example.answer, example.target, bounds.answer)):
                    yield dropped("reference_off_target", question)
                    continue
                right = [(f"{question.question_id}-reference", example.rationale)]
            # Each text once: sampled attempts repeat one another.
            couples = list(itertools.product(_distinct(right), _distinct(wrong)))
            rng.shuffle(couples)
            for chosen, rejected in couples[: self.settings.per_question]:
                yield paired(question, example, chosen, rejected, bounds)


def _distinct(texts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return list({text: (name, text) for name, text in texts}.values())
