"""All that one round of the loop asks of models: what each stage counts, in the order of the stages."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.student_replies import ANSWER_TOKENS
from arte_plugin.plan.calls import BARE
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.stages.order import IN_ORDER

#: Of a student's replies, how many are assumed to be asked for their answer (`probe.ask_again`).
UNREADABLE = 0.2


def works(args: ArteArgs, tasks: Sequence[Sizes], *, own_drafts: bool = True) -> list[Work]:
    """Every kind of call of one round that there is, in the order of the stages, summed over `tasks`."""
    makes_drafts = own_drafts and not args.pair.drafts
    return [
        total
        for stage in IN_ORDER
        if stage.asked(args, makes_drafts)
        for total in _summed(
            [work for task in tasks for one in stage.calls(args, task) for work in _and_again(args, one)]
        )
        if total.calls
    ]


def _and_again(args: ArteArgs, work: Work) -> Iterable[Work]:
    """The calls, and those for the answers behind a student's replies without one: prompt and reply are read again."""
    yield work
    if not args.probe.ask_again or work.who != "student" or not work.new:
        return
    calls = UNREADABLE * work.calls
    yield Work(
        work.stage, f"{work.what}, asked again", "student", calls, UNREADABLE * (work.asked + work.new) + calls * BARE,
        UNREADABLE * (work.computed + work.new) + calls * BARE, calls * BARE, work.calls * ANSWER_TOKENS,
    )  # fmt: skip


def _summed(parts: Iterable[Work]) -> list[Work]:
    totals: dict[str, Work] = {}
    for part in parts:
        if known := totals.get(part.what):
            part = replace(
                part,
                calls=part.calls + known.calls,
                asked=part.asked + known.asked,
                computed=part.computed + known.computed,
                new=part.new + known.new,
                most=part.most + known.most,
            )
        totals[part.what] = part
    return list(totals.values())
