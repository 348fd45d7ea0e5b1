"""A rationale in one way of reasoning: what the teacher is told of it never reaches a student (section 3.1)."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from arte_plugin.config.block import Block
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.language import prompts
from arte_plugin.operators.solve import parent
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import NewRationale, NoSettings
from arte_plugin.rows import Order


class Technique:
    """The rationale for `Order.parent` as `Order.notes` says."""

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
        """The plain prompt with the instruction in it."""
        return prompts.technique_prompt(task.description, "\n".join(order.notes), task.answer, parent(order).question)

    def begun(self, task: TaskArgs, order: Order) -> str:
        """Nothing."""
        return ""

    def read(self, task: TaskArgs, order: Order, reply: str) -> Iterator[NewRationale]:
        """All up to where the reply goes on to a next question."""
        yield NewRationale(reply.split(prompts.NEXT_QUESTION)[0].strip())
