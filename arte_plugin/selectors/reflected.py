"""A rewritten example stays where the student's own likelihoods call it better (Selective Reflection-Tuning).

Ming Li et al., arXiv 2402.10110, section 3; its code also asks that both numbers are below 1.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import Dropped, TailoredExample
from arte_plugin.signals import difficulty


class ReflectedArgs(Block):
    """Settings of `reflected`."""

    operator: str = Field(
        "reflect",
        min_length=1,
        description="Which operator's examples are held against those that they were made from.",
    )
    below_one: bool = Field(
        True,
        description="Whether a rewritten example must also have both numbers below 1, as in the paper's code: else its "
        "question is no help for its rationale, or the other way round.",
    )
    only_rewritten: bool = Field(
        False,
        description="Whether examples that stay as they were are left out, as in the paper; it needs so many more "
        "examples to begin with. Otherwise what is no better than before stays as it was.",
    )


@dataclass(frozen=True)
class Numbers:
    """Of an example, means over students."""

    ifd: float
    reversed_ifd: float


class Reflected:
    """Of an example and what `reflect` made of it, the better one under the student.

    The rewritten rationale must make its question easier to guess (a lower reversed IFD). Where an operator has
    rewritten the question too, that must be harder to follow for the student (a higher IFD).
    """

    Settings: ClassVar[type[Block]] = ReflectedArgs
    version: ClassVar[int] = 1
    likelihoods: ClassVar[bool] = True
    costs: ClassVar[str] = "each student: the likelihoods of 8 texts an example, no reply"

    def __init__(self, settings: ReflectedArgs) -> None:
        self.settings = settings

    @property
    def waits_for(self) -> str:
        """The operator without whose examples there is nothing to choose from."""
        return self.settings.operator

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """Rationale and question, each behind the other and alone, before and after; no token is written."""
        of, calls = sizes.student, 8 * sizes.examples
        both = 2 * of.chat + of.frame + 2 * (of.question + of.rationale)
        tokens = 2 * sizes.examples * (both + 2 * of.chat + of.question + of.rationale)
        yield Work("regenerate", "likelihoods for IFD", "student", calls, tokens, tokens, 0.0)

    def select(
        self, task: Task, examples: Sequence[TailoredExample], evidence: Evidence, asking: Asking
    ) -> Iterator[TailoredExample | Dropped]:
        """One of each two, in the order of those that were rewritten."""
        made_by = f"{self.settings.operator}/"
        rewritten = {one.origin: one for one in examples if one.origin.startswith(made_by)}
        before = [one for one in examples if not one.origin.startswith(made_by)]
        name = self.settings.operator
        pairs = [(one, rewritten[one.rewritten_as(name)]) for one in before if one.rewritten_as(name) in rewritten]
        numbers = _numbers(task, asking, [one for pair in pairs for one in pair])
        for old in before:
            new = rewritten.pop(old.rewritten_as(name), None)
            if new is None:
                yield self._stays(old, "not_rewritten")
                continue
            reason = self._no_better(old, new, numbers)
            if reason:
                yield _dropped(new, f"reflection_{reason}")
                yield self._stays(old, "not_improved")
            else:
                yield _dropped(old, "rewritten")
                yield new
        yield from (_dropped(one, "reflection_of_nothing") for one in rewritten.values())

    def _no_better(self, old: TailoredExample, new: TailoredExample, numbers: dict[tuple[str, str], Numbers]) -> str:
        """Why the rewritten one isn't taken, or nothing."""
        if (old.question, old.rationale) == (new.question, new.rationale):
            return "unchanged"
        before, after = numbers[old.question, old.rationale], numbers[new.question, new.rationale]
        if new.question != old.question and after.ifd <= before.ifd:
            return "ifd_no_higher"
        if new.rationale != old.rationale and after.reversed_ifd >= before.reversed_ifd:
            return "reversed_ifd_no_lower"
        if self.settings.below_one and max(after.ifd, after.reversed_ifd) >= 1:
            return "not_below_one"
        return ""

    def _stays(self, example: TailoredExample, reason: str) -> TailoredExample | Dropped:
        return _dropped(example, reason) if self.settings.only_rewritten else example


def _numbers(task: Task, asking: Asking, examples: Sequence[TailoredExample]) -> dict[tuple[str, str], Numbers]:
    """By question and rationale; nobody is asked where nothing was rewritten."""
    texts = list(dict.fromkeys((one.question, one.rationale) for one in examples))
    if not texts:
        return {}
    of_students = [
        list(
            zip(
                difficulty.ifd(asking, student, task, texts),
                difficulty.reversed_ifd(asking, student, task, texts),
                strict=True,
            )
        )
        for student in asking.students
    ]
    return {
        text: Numbers(fmean(one[place][0] for one in of_students), fmean(one[place][1] for one in of_students))
        for place, text in enumerate(texts)
    }


def _dropped(example: TailoredExample, reason: str) -> Dropped:
    return Dropped("regenerate", reason, example.task, example.origin or example.question, example.rationale)
