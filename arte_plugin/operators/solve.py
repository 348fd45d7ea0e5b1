"""A rationale under the plain step-by-step prompt, which the student shares to the letter (sections 3.3 and 3.4)."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from arte_plugin.config.block import Block
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.language import prompts
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import NewRationale, NoSettings
from arte_plugin.rows import Order, Question


class Solve:
    """The rationale for `Order.parent`."""

    makes: ClassVar[Literal["questions", "rationale"]] = "rationale"
    Settings: ClassVar[type[Block]] = NoSettings
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing: the teacher's replies are those to the orders"

    def __init__(self, settings: NoSettings) -> None:
        pass

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """Each order is a call, which the stage counts."""
        return ()

    def prompt(self, task: TaskArgs, order: Order) -> str:
        """The plain prompt."""
        return prompts.solve_prompt(task.description, task.answer, parent(order).question)

    def begun(self, task: TaskArgs, order: Order) -> str:
        """Nothing."""
        return ""

    def read(self, task: TaskArgs, order: Order, reply: str) -> Iterator[NewRationale]:
        """All up to where the reply goes on to a next question."""
        yield NewRationale(reply.split(prompts.NEXT_QUESTION)[0].strip())


def parent(order: Order) -> Question:
    """The question that an order starts from. Raises `ValueError` for an order without one."""
    if order.parent is None:
        raise ValueError(f"the order {order.order_id} for the operator {order.operator} names no question")
    return order.parent


def solve_orders(questions: Iterable[Question]) -> list[Order]:
    """An order for each question, with its id."""
    return [Order(one.question_id, one.task, "solve", parent=one) for one in questions]
