"""More questions for tasks in which the student is further behind the teacher (DDK, arXiv 2407.16154, section 3)."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Reply
from arte_plugin.errors import ConfigError
from arte_plugin.language import prompts
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asked, Asking, Evidence
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Order, wilson

LOG = logging.getLogger(LOGGER)


class GapSharesArgs(Block):
    """Settings of `gap_shares`."""

    by: Literal["accuracy", "perplexity"] = Field(
        "accuracy",
        description="What is compared on each task's validation questions. `accuracy`: the shares of right answers, "
        "greedy and without an example; the gap is the teacher's less the student's, and 0 where the teacher is no "
        "better: more of its data can't help there. `perplexity`: as in DDK the student's perplexity of the right "
        "answers over the teacher's; both must run in this process, and have one tokenizer to be comparable.",
    )
    temperature: float = Field(
        1.0, gt=0, description="A task weighs exp(gap / temperature): the lower, the more decides the gap. DDK: 1."
    )
    smooth: float = Field(
        0.5,
        ge=0,
        le=1,
        description="So much of the questions goes by the gap, the rest in equal parts to all tasks, of which none "
        "falls below (1 - smooth) / tasks. DDK: 0.5.",
    )


@dataclass(frozen=True)
class Gap:
    """What a task's share follows from."""

    #: How teacher and student did: shares of right answers, or perplexities.
    teacher: float
    student: float
    #: Validation questions.
    n: int
    gap: float


class GapShares:
    """The orders of the planner before it, shared out anew among the tasks; in all they stay as many.

    With several students the mean of theirs counts. In every round shares begin as equal ones: DDK's own, which go on
    from step to step, change within one training.
    """

    Settings: ClassVar[type[Block]] = GapSharesArgs
    operators: ClassVar[Sequence[str]] = ()
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "teacher and student: an answer to each validation question; the student's are in the cache"

    def __init__(self, settings: GapSharesArgs) -> None:
        self.settings = settings

    @property
    def likelihoods(self) -> bool:
        """Whether it needs them."""
        return self.settings.by == "perplexity"

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """The teacher's answers to the validation questions; the student's are there where it was asked at 0 shots."""
        for who, of in (("teacher", sizes.teacher), ("student", sizes.student)):
            calls = sizes.validation
            if who == "student" and self.settings.by == "accuracy" and 0 in sizes.shots:
                continue
            tokens = calls * (of.chat + of.before + of.question + of.frame)
            new = calls * (of.rationale if who == "teacher" else of.reply) if self.settings.by == "accuracy" else 0.0
            yield Work("regenerate", f"gaps: validation questions, {who}", who, calls, tokens, tokens, new, new)

    def shares(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], asking: Asking, wanted: Mapping[str, int]
    ) -> Mapping[str, int]:
        """By task how many questions it is to have."""
        measured = self._by_accuracy if self.settings.by == "accuracy" else self._by_perplexity
        gaps = measured(tasks, asking)
        weights = shares_of({name: gap.gap for name, gap in gaps.items()}, self.settings)
        counts = whole_numbers(weights, sum(wanted[task.name] for task in tasks))
        for name, gap in gaps.items():
            LOG.info("gap_shares: %s", told(name, gap, self.settings.by, weights[name], counts[name]))
        return counts

    def plan(
        self, tasks: Sequence[Task], orders: Iterable[Order], evidence: Mapping[str, Evidence], asking: Asking,
        wanted: Mapping[str, int],
    ) -> Iterator[Order]:  # fmt: skip
        """Those before it. Raises `ConfigError` where there are none."""
        order = None
        for order in orders:
            yield order
        if order is None:
            raise ConfigError(
                "`gap_shares` shares out the orders of the planner before it, and there were none: "
                "`plan: [paper, gap_shares]`."
            )

    def _by_accuracy(self, tasks: Sequence[Task], asking: Asking) -> dict[str, Gap]:
        # The teacher last: it is to write next.
        students = [_accuracies(asking, student, tasks) for student in asking.students]
        teacher = _accuracies(asking, asking.teacher, tasks)
        found = {}
        for task in tasks:
            student = fmean(of_one[task.name] for of_one in students)
            best = teacher[task.name]
            found[task.name] = Gap(best, student, len(task.validation), max(0.0, best - student))
        return found

    def _by_perplexity(self, tasks: Sequence[Task], asking: Asking) -> dict[str, Gap]:
        students = [_perplexities(asking, student, tasks) for student in asking.students]
        teacher = _perplexities(asking, asking.teacher, tasks)
        found = {}
        for task in tasks:
            student = fmean(of_one[task.name] for of_one in students)
            best = teacher[task.name]
            found[task.name] = Gap(best, student, len(task.validation), student / best)
        return found


def shares_of(gaps: Mapping[str, float], settings: GapSharesArgs) -> dict[str, float]:
    """Each task's share of the questions, in 0..1, from its gap; DDK's factor behind equal ones.

    >>> {name: round(share, 4) for name, share in shares_of({"a": 1, "b": 2}, GapSharesArgs()).items()}
    {'a': 0.3845, 'b': 0.6155}
    """
    highest = max(gaps.values())
    # Less the highest gap, which changes no share: of a perplexity's ratio, exp alone may be too large for a number.
    weights = {name: math.exp((gap - highest) / settings.temperature) for name, gap in gaps.items()}
    total = math.fsum(weights.values())
    return {
        name: settings.smooth * weight / total + (1 - settings.smooth) / len(gaps) for name, weight in weights.items()
    }


def whole_numbers(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """`total` in parts as `shares` say, each at least 1; what is left over goes to the largest remainders.

    >>> whole_numbers({"a": 0.3845, "b": 0.6155}, 24)
    {'a': 9, 'b': 15}
    """
    exact = {name: share * total for name, share in shares.items()}
    counts = {name: max(1, math.floor(part)) for name, part in exact.items()}
    while sum(counts.values()) < total:
        behind = max(counts, key=lambda name: exact[name] - counts[name])
        counts[behind] += 1
    while sum(counts.values()) > total:
        ahead = max((name for name in counts if counts[name] > 1), key=lambda name: counts[name] - exact[name])
        counts[ahead] -= 1
    return counts


def told(name: str, gap: Gap, by: str, share: float, count: int) -> str:
    """A task's line for the log."""
    if by == "perplexity":
        how = f"perplexity of {gap.n} right answers: teacher {gap.teacher:.3g}, student {gap.student:.3g}"
    else:
        teacher, student = (_percent(one, gap.n) for one in (gap.teacher, gap.student))
        how = f"of {gap.n} validation questions right: teacher {teacher}, student {student}"
    return f"task {name}: {how}; share {share:.3f}, {count} questions"


def _percent(share: float, n: int) -> str:
    low, high = wilson(share * n, n)
    return f"{100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def _accuracies(asking: Asking, who: Asked, tasks: Sequence[Task]) -> dict[str, float]:
    found = {}
    for task in tasks:
        attempts = [one for one in asking.attempts(who, task, task.validation) if one.sample == 0]
        found[task.name] = fmean(one.outcome == "correct" for one in attempts)
    return found


def _perplexities(asking: Asking, who: Asked, tasks: Sequence[Task]) -> dict[str, float]:
    """Of the right answers, with the tag that ends them, behind the plain prompt and the tag that begins them."""
    found = {}
    for task in tasks:
        replies = [
            Reply(
                who.renderer.prompt(
                    prompts.solve_prompt(task.args.description, task.args.answer, question.question),
                    prefill=prompts.ANSWER_BEGIN,
                ),
                f"{question.target}{prompts.ANSWER_END}",
                f"{task.name}/gaps",
            )
            for question in task.validation
        ]
        likelihoods = asking.likelihoods(who, replies, f"gaps {task.name}")
        total = math.fsum(one.log_probability for one in likelihoods)
        found[task.name] = math.exp(-total / sum(one.tokens for one in likelihoods))
    return found
