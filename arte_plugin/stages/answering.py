"""Examples of questions: a teacher's rationales under the plain prompt, and what operators make of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.plugs import Chosen
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.data.same_question import strictly
from arte_plugin.data.tasks import Task
from arte_plugin.errors import TeacherError
from arte_plugin.models.model import Model
from arte_plugin.operators.solve import solve_orders
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Dropped, Order, Question, TailoredExample, content_id
from arte_plugin.stages.agreement import majority, reason_to_drop
from arte_plugin.stages.orders import RESIDENTS, Ways
from arte_plugin.stages.rationales import write_rationales

LOG = logging.getLogger(LOGGER)

STAGE = "regenerate"


@dataclass(frozen=True)
class ToAnswer:
    """A question, and the order that it came of where that is to be told of."""

    question: Question
    origin: str = ""


def answered(
    task: Task, teacher: Model, questions: Sequence[ToAnswer], settings: RegenerateArgs, asking: ElicitArgs, seed: int
) -> tuple[list[TailoredExample], list[Dropped]]:
    """Greedy rationales under the plain prompt. Raises `TeacherError` where none is written, or none is kept."""
    orders = solve_orders(one.question for one in questions)
    ways = Ways(STAGE, seed, 0.0, settings.max_new_tokens, asking.prefill)
    written, dropped = write_rationales(task, teacher, orders, RESIDENTS, ways)
    voted = _voted(task, teacher, orders, settings, ways) if settings.keep == "majority" else {}
    examples: list[TailoredExample] = []
    for one, order, rationale in zip(questions, orders, written, strict=True):
        if rationale is None:
            continue
        (text, answer), asked = rationale, one.question
        reason = reason_to_drop(settings.keep, answer, asked.target, voted.get(asked.question_id), task.args.answer)
        if reason:
            dropped.append(Dropped(STAGE, reason, task.name, asked.question_id, text))
        else:
            prompt = RESIDENTS["solve"].prompt(task.args, order)
            examples.append(
                TailoredExample(task.name, asked.question, asked.target, text, answer, prompt, origin=one.origin)
            )
    if not examples:
        raise TeacherError(
            f"Task {task.name}: `regenerate.keep: {settings.keep}` keeps none of the {len(dropped)} rationales of the "
            f"teacher {teacher.name}. A larger teacher may agree with itself; `regenerate.keep: all` keeps all."
        )
    return examples, dropped


def _voted(task: Task, teacher: Model, orders: Sequence[Order], settings: RegenerateArgs, ways: Ways) -> dict[str, str]:
    """The majority's answer to each order that has one, by its id, among `settings.samples` sampled ones."""
    ids = [one.order_id for one in orders]
    sampled = [replace(one, order_id=f"{one.order_id}/sample-{i}") for one in orders for i in range(settings.samples)]
    ways = replace(ways, temperature=settings.sample_temperature)
    written, _ = write_rationales(task, teacher, sampled, RESIDENTS, ways)
    given: dict[str, list[str]] = {name: [] for name in ids}
    for one, rationale in zip(sampled, written, strict=True):
        if rationale is not None:
            given[one.order_id.rpartition("/")[0]].append(rationale[1])
    found = {name: majority(all_of_it, task.args.answer) for name, all_of_it in given.items()}
    return {name: answer for name, answer in found.items() if answer is not None}


def rewritten(
    task: Task, teacher: Model, examples: Sequence[TailoredExample], operators: Sequence[Chosen],
    settings: RegenerateArgs, asking: ElicitArgs, seed: int,
) -> tuple[list[TailoredExample], list[Dropped]]:  # fmt: skip
    """What each operator makes of each example, greedily; what comes to nothing is dropped, and the example stays."""
    made: list[TailoredExample] = []
    dropped: list[Dropped] = []
    ways = Ways(STAGE, seed, 0.0, settings.max_new_tokens, asking.prefill)
    for operator in operators:
        of_order = {one.rewritten_as(operator.name): one for one in examples}
        orders = [_order(order_id, one, operator.name) for order_id, one in of_order.items()]
        by_name: Mapping = {operator.name: operator.made()}
        written, lost = write_rationales(task, teacher, orders, by_name, ways, needed=False)
        for (order_id, one), rationale in zip(of_order.items(), written, strict=True):
            if rationale is None:
                continue
            text, answer = rationale
            # An example that stayed by a majority has its answer.
            if reason := reason_to_drop(settings.keep, answer, one.target, one.answer, task.args.answer):
                lost.append(Dropped(STAGE, reason, task.name, order_id, text))
                continue
            made.append(replace(one, rationale=text, answer=answer, origin=order_id))
        dropped += lost
        if len(lost) == len(orders):
            LOG.warning(
                "%s: task %s: of %d examples the teacher %s has rewritten none in a form that can be read",
                operator.name, task.name, len(orders), teacher.name,
            )  # fmt: skip
    return made, dropped


def _order(order_id: str, example: TailoredExample, operator: str) -> Order:
    name = content_id(example.task, strictly(example.question))
    parent = Question(name, example.task, example.question, example.target)
    return Order(order_id, example.task, operator, parent=parent, rationale=example.rationale)
