"""Orders on their way to the teacher: by task, with their operators, and how a stage asks for what they order."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from arte_plugin.errors import StageError
from arte_plugin.operators import OPERATORS
from arte_plugin.plugs import NoSettings, Operator
from arte_plugin.rows import Order

#: Orders of other tasks that may come, one after the other, while a task waits for one of its own: a plan without end
#: that has left the task out is not waited for without end.
MOST_WAITING = 10_000

#: The paper's operators, which the stages' own orders are for.
RESIDENTS: Mapping[str, Operator] = {
    name: OPERATORS[name](NoSettings()) for name in ("new_question", "technique", "solve")
}


@dataclass(frozen=True)
class Ways:
    """How a stage asks for what is ordered."""

    #: It names the requests and, with the seed, decides what is sampled.
    stage: str
    seed: int
    temperature: float
    #: Tokens of a reply at most.
    max_new_tokens: int
    #: Whether replies are begun for the teacher (`elicit.prefill`).
    prefill: bool
    #: So many times the fewest calls that could have been enough, and questions are given up (`elicit.max_calls`).
    max_calls: int = 1

    def number(self, task: str, what: str, order_id: str) -> int:
        """A seed for one request, the same in every run and on every machine."""
        parts = [str(self.seed), task, self.stage, what, order_id]
        return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:4], "big")


class Orders:
    """The orders of a plan, handed out by task; those that come before their task's turn wait for it."""

    def __init__(self, orders: Iterable[Order]) -> None:
        self._orders = iter(orders)
        self._waiting: dict[str, deque[Order]] = {}

    def begin(self) -> None:
        """Draw the first order: a planner has then asked whomever it asks."""
        if (first := next(self._orders, None)) is not None:
            self._waiting.setdefault(first.task, deque()).append(first)

    def of(self, task: str) -> Iterator[Order]:
        """Those of one task, as they come; the next caller goes on where this one left."""
        mine = self._waiting.setdefault(task, deque())
        while mine or self._comes(task):
            yield mine.popleft()

    def _comes(self, task: str) -> bool:
        """Whether the plan has one more for the task; it waits then."""
        for order, _ in zip(self._orders, range(MOST_WAITING), strict=False):
            self._waiting.setdefault(order.task, deque()).append(order)
            if order.task == task:
                return True
        return False


def operator_of(operators: Mapping[str, Operator], order: Order) -> Operator:
    """Who puts an order into words. Raises `StageError` where its planner has named another than it said."""
    if order.operator not in operators:
        raise StageError(
            f"Task {order.task}: the order {order.order_id} is for the operator {order.operator}, which its planner "
            f"doesn't name among its `operators` ({', '.join(operators)})."
        )
    return operators[order.operator]
