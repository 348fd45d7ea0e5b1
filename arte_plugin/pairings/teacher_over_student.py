"""The teacher's rationale over the student's own attempt (PLaD, arXiv 2406.02886; data of DistiLLM-2, 2503.07067)."""

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


class TeacherOverStudentArgs(AttemptsArgs):
    """Settings of `teacher_over_student`."""

    samples: int = Field(1, ge=1, description="Sampled attempts of the tuned student at each tailored question.")
    temperature: float = Field(0.8, gt=0, le=5, description="Their sampling temperature; DistiLLM-2: 0.8.")
    only: Literal["wrong", "all"] = Field(
        "wrong",
        description="Which attempts are rejected. `wrong`: those that miss the target, "
        "and only by a rationale that reaches it; `all`: as in PLaD, without any "
        "judge, which on questions with an answer calls right attempts bad.",
    )


class TeacherOverStudent:
    """The tailored rationale over what the tuned student writes to the same question.

    Attempts without an answer that can be read make no pair, and neither does one that is the rationale itself.
    """

    Settings: ClassVar[type[Block]] = TeacherOverStudentArgs
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "the tuned student: `samples` replies to each tailored question, of each arm and seed"
    trains: ClassVar[Literal["teacher", "student"]] = "student"

    def __init__(self, settings: TeacherOverStudentArgs) -> None:
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
            judged = self.settings.only == "wrong"
            if judged and not (bounds.answer and answers.same(example.answer, example.target, bounds.answer)):
                # Attempts that end where it does would be called wrong.
                yield dropped("reference_off_target", question)
                continue
            chosen = (f"{question.question_id}-teacher", example.rationale)
            kept, lost = attempts.readable(tried, question)
            yield from lost
            seen: set[str] = set()
            for one, text in kept:
                if one.outcome == "correct" and judged:
                    yield dropped("attempt_right", question, one.attempt_id)
                elif text in seen:
                    yield dropped("repeated", question, one.attempt_id)
                else:
                    seen.add(text)
                    yield paired(question, example, chosen, (one.attempt_id, text), bounds)
