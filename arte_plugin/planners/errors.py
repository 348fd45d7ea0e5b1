"""Questions like those that the student gets wrong (LLM2LLM, arXiv 2403.15042, section 3).

DataEnvGym's open-ended environment (arXiv 2410.06215) is the same with several errors and seeds in each prompt.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, islice
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from arte_plugin.config.block import Block
from arte_plugin.data.same_question import strictly
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Attempt, Order, Question, content_id

LOG = logging.getLogger(LOGGER)

Origin = Literal["seed", "validation", "draft", "tailored"]

#: A question that a student got wrong, and its greedy attempt.
Error = tuple[Question, Attempt]


class ErrorsArgs(Block):
    """Settings of `errors`."""

    origin: list[Origin] = Field(
        ["seed"],
        min_length=1,
        description="Which questions the student is asked: `seed`, `draft` (stage 1's, whose answers the teacher "
        "claims), `tailored` (those that earlier rounds kept, `rounds.keep_examples`), `validation`. The teacher "
        "sees those that the student gets wrong: of `validation`, on which the preference set and further rounds "
        "are decided, that is a leak, so it must be asked for. LLM2LLM asks its labelled seed data: for that, give "
        "more `seed_questions` than the 10 by default.",
    )
    per_error: int = Field(
        0, ge=0, description="Orders made of one error, at most; 0: in turns until there are enough questions."
    )
    questions: int = Field(1, ge=1, description="New questions asked for in an order. DataEnvGym: 10.")
    order: Literal["given", "shuffled", "wrong_first"] = Field(
        "given",
        description="In which order errors take their turns. `given`: the questions'; `shuffled`: another in "
        "each turn; `wrong_first`: replies without an answer that can be read come last.",
    )
    unparsed: bool = Field(
        True, description="Whether a reply without an answer that can be read is an error too, as in LLM2LLM."
    )
    errors_shown: int = Field(
        1, ge=1, description="Errors shown in an order: one is its own, the others are drawn. DataEnvGym: 3."
    )
    seeds_shown: int = Field(0, ge=0, description="Seed questions shown in an order. DataEnvGym: 3.")

    @field_validator("origin", mode="before")
    @classmethod
    def _one_or_several(cls, origin: object) -> object:
        return [origin] if isinstance(origin, str) else origin

    @field_validator("origin")
    @classmethod
    def _origins_differ(cls, origin: list[Origin]) -> list[Origin]:
        for one in origin:
            if origin.count(one) > 1:
                raise ValueError(f"{one} stands there twice")
        return origin


class Errors:
    """An order for each question that the student gets wrong by itself, greedy and without an example; then again.

    Where several students are trained, each one's errors take their turn. For a task without errors, and where
    `per_error` is used up, the orders of the planner before it are passed on, if there is one.
    """

    Settings: ClassVar[type[Block]] = ErrorsArgs
    operators: ClassVar[Sequence[str]] = ("similar_question",)
    version: ClassVar[int] = 2
    costs: ClassVar[str] = "the student: a greedy reply to each question of `origin`"

    def __init__(self, settings: ErrorsArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """The student's attempts, one a question; validation questions are in the cache since stage 2."""
        asked = sum(
            {"seed": sizes.seed_questions, "validation": sizes.validation, "draft": sizes.questions}.get(origin, 0)
            for origin in self.settings.origin
        )
        of = sizes.student
        prompt = of.chat + of.before + of.question + of.frame
        tokens = asked * prompt
        yield Work("regenerate", "attempts", "student", asked, tokens, tokens, asked * of.reply, asked * of.reply)

    def per_order(self) -> int:
        """Questions asked for in an order."""
        return self.settings.questions

    def plan(
        self, tasks: Sequence[Task], orders: Iterable[Order], evidence: Mapping[str, Evidence], asking: Asking,
        wanted: Mapping[str, int],
    ) -> Iterator[Order]:  # fmt: skip
        """Task by task in turns: each has one order, then each its next."""
        errors = self._errors(tasks, evidence, asking)
        for task in tasks:
            if not errors[task.name]:
                LOG.warning(
                    "errors: task %s: there is no question of the origin %s that the student gets wrong, so none is "
                    "planned from; `errors.origin` names other questions",
                    task.name,
                    ", ".join(self.settings.origin),
                )
        without = sum(not errors[task.name] for task in tasks)
        passed_on = iter(orders) if self.settings.per_error else (one for one in orders if not errors.get(one.task))
        for turn in count():
            left = [task for task in tasks if errors[task.name] and not self._used_up(turn)]
            if not left:
                break
            yield from _in_turns([self._turn(task, errors[task.name], turn, asking) for task in left])
            if not self.settings.per_error:
                # Turns have no end, which the tasks without errors must not wait for.
                yield from islice(passed_on, without)
        yield from passed_on

    def _used_up(self, turn: int) -> bool:
        return bool(self.settings.per_error) and turn >= self.settings.per_error

    def _turn(self, task: Task, errors: Sequence[Error], turn: int, asking: Asking) -> Iterator[Order]:
        """One order for each error."""
        errors = list(errors)
        if self.settings.order == "shuffled":
            asking.rng(task.name, "errors", "order", str(turn)).shuffle(errors)
        elif self.settings.order == "wrong_first":
            errors.sort(key=lambda error: error[1].outcome == "unparsed")
        for parent, attempt in errors:
            rng = asking.rng(task.name, "errors", "shown", str(turn), attempt.attempt_id)
            # Each question once, however many students get it wrong.
            others = list({error[0].question_id: error for error in errors}.values())
            others = [error for error in others if error[0].question_id != parent.question_id]
            more = rng.sample(others, min(self.settings.errors_shown - 1, len(others)))
            known = {parent.question_id, *(question.question_id for question, _ in more)}
            pool = [seed for seed in task.seeds if seed.question_id not in known]
            seeds = rng.sample(pool, min(self.settings.seeds_shown, len(pool)))
            yield Order(
                "", task.name, self.operators[0], self.settings.questions, tuple(seeds), parent, parent.rationale,
                attempt, tuple(more),
            ).named(str(turn))  # fmt: skip

    def _errors(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], asking: Asking
    ) -> dict[str, list[Error]]:
        """By task; all that is asked of one student before another is asked."""
        found: dict[str, list[Error]] = {task.name: [] for task in tasks}
        for student in asking.students:
            for task in tasks:
                asked = self._questions(task, evidence.get(task.name, Evidence()))
                attempts = asking.attempts(student, task, asked) if asked else []
                for question, attempt in zip(asked, attempts, strict=True):
                    if attempt.outcome == "wrong" or (attempt.outcome == "unparsed" and self.settings.unparsed):
                        found[task.name].append((question, attempt))
        return found

    def _questions(self, task: Task, evidence: Evidence) -> list[Question]:
        made = {
            "seed": task.seeds,
            "validation": task.validation,
            "draft": [Question(one.question_id, one.task, one.question, one.target) for one in evidence.drafts],
            "tailored": [
                Question(content_id(one.task, strictly(one.question)), one.task, one.question, one.target)
                for one in evidence.kept
            ],
        }
        asked = chain.from_iterable(made[origin] for origin in self.settings.origin)
        return list({question.question_id: question for question in asked}.values())


def _in_turns(orders: Sequence[Iterator[Order]]) -> Iterator[Order]:
    """One of each, then the next of each, until all have come."""
    going = list(orders)
    while going:
        left = []
        for one in going:
            if (order := next(one, None)) is not None:
                yield order
                left.append(one)
        going = left
