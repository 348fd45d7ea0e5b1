"""The paper's plan: new questions, call after call, each shown some seed questions drawn at random (section 3.1)."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import ClassVar

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.data.tasks import Task
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import Order


class PaperSettings(Block):
    """How many are shown and asked for."""

    seeds_per_prompt: int | None = Field(
        None, ge=1, description="Seed questions shown in a prompt; default: `elicit.seeds_per_prompt`."
    )
    questions_per_prompt: int | None = Field(
        None, ge=1, description="Questions asked for by a prompt; default: `elicit.questions_per_prompt`."
    )


class Paper:
    """Orders without end, task by task in turn; behind another planner it goes on where that one's orders end."""

    Settings: ClassVar[type[Block]] = PaperSettings
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing: the teacher's replies are those to the orders"
    operators: ClassVar[Sequence[str]] = ("new_question",)

    def __init__(self, settings: PaperSettings) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """It asks nobody; its orders are the calls that the stage counts."""
        return ()

    def per_order(self) -> int:
        """Questions asked for in an order."""
        return self.settings.questions_per_prompt or ElicitArgs().questions_per_prompt

    def plan(
        self, tasks: Sequence[Task], orders: Iterable[Order], evidence: Mapping[str, Evidence], asking: Asking,
        wanted: Mapping[str, int],
    ) -> Iterator[Order]:  # fmt: skip
        """What the planner before has ordered, then its own."""
        yield from orders
        shown, by_call = self.settings.seeds_per_prompt or ElicitArgs().seeds_per_prompt, self.per_order()
        own = [paper_orders(task, shown, by_call, asking.stage, asking.seed) for task in tasks]
        while True:
            yield from map(next, own)


def paper_orders(task: Task, seeds_per_prompt: int, by_call: int, stage: str, seed: int) -> Iterator[Order]:
    """One task's: an order's id is the number of its call, by which it goes in request caches of all versions."""
    shown = min(seeds_per_prompt, len(task.seeds))
    for call in count():
        drawn = random.Random(f"{seed}/{task.name}/{stage}/seeds/{call}").sample(task.seeds, shown)
        yield Order(str(call), task.name, "new_question", by_call, tuple(drawn))


def origin_of(order: Order) -> str:
    """How an example tells of its order: not at all where that is one of these."""
    papers = order.operator == Paper.operators[0] and order.order_id.isdecimal() and len(order.order_id) < 8
    return "" if papers else order.order_id
