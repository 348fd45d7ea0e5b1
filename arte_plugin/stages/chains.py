"""An arm's strategies, made: planners as one plan, operators by name, selectors one after the other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arte_plugin.config.arms import ArmArgs
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.plugs import Chosen
from arte_plugin.data.tasks import Task
from arte_plugin.plugs import Asking, Evidence, Operator, Planner, Selector, Shares
from arte_plugin.rows import Dropped, Order, TailoredExample
from arte_plugin.stages.orders import Orders


@dataclass(frozen=True)
class Plan:
    """What an arm's teacher is asked for, of all tasks."""

    orders: Orders
    #: Questions of each task that are to be brought home.
    wanted: Mapping[str, int]
    operators: Mapping[str, Operator]


def planned(
    arm: ArmArgs, tasks: Sequence[Task], evidence: Mapping[str, Evidence], asking: Asking, elicit: ElicitArgs,
    questions: int,
) -> Plan:  # fmt: skip
    """An arm's plan, begun: its first order has been drawn, so that whom it asks has been asked.

    `questions` is of each task, which a planner may deal out anew.
    """
    planners: list[Planner] = [made(one, elicit) for one in arm.planners]
    wanted: Mapping[str, int] = {task.name: questions for task in tasks}
    for planner in planners:
        if isinstance(planner, Shares):
            wanted = planner.shares(tasks, evidence, asking, wanted)
    orders: Iterable[Order] = ()
    for planner in planners:
        orders = planner.plan(tasks, orders, evidence, asking, wanted)
    begun = Orders(orders)
    begun.begin()
    return Plan(begun, wanted, {one.name: one.made() for one in arm.writing})


def made(one: Chosen, elicit: ElicitArgs) -> Any:
    """A strategy of its settings; those that are called like one of `elicit` and left out are as that one."""
    left_out = {
        key: getattr(elicit, key)
        for key in type(one.settings).model_fields
        if key in ElicitArgs.model_fields and getattr(one.settings, key) is None
    }
    return replace(one, settings=one.settings.model_copy(update=left_out)).made()


def selected(
    arm: ArmArgs, task: Task, examples: Sequence[TailoredExample], evidence: Evidence, asking: Asking
) -> tuple[list[TailoredExample], list[Dropped]]:
    """What an arm's selectors leave of a task's examples."""
    dropped: list[Dropped] = []
    for one in arm.selectors:
        selector: Selector = one.made()
        kept: list[TailoredExample] = []
        for row in selector.select(task, examples, evidence, asking):
            if isinstance(row, Dropped):
                dropped.append(row)
            else:
                kept.append(row)
        examples = kept
    return list(examples), dropped
