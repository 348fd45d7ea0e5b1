"""What stage 6 asks of models for its arms, for `arte plan`: what several of them share is counted once."""

from collections.abc import Iterable, Iterator

from arte_plugin.config.arms import ArmArgs
from arte_plugin.config.arte import ArteArgs
from arte_plugin.plan.calls import plain, questions
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import PerOrder
from arte_plugin.stages.chains import made
from arte_plugin.stages.tailoring import answering, planning, rewriting


def calls(stage: str, args: ArteArgs, task: Sizes) -> Iterator[Work]:
    """Of one task."""
    of, longest, arms = task.teacher, args.regenerate.max_new_tokens, args.combinations.values()
    for arm in {planning(arm): arm for arm in arms if arm.questions != "drafted"}.values():
        yield questions(stage, "tailored questions", args, task, task.examples, longest, per_order(arm, args))
        for planner in arm.planners:
            yield from _of_all(made(planner, args.elicit).calls(task), args)
        for operator in arm.writing:
            yield from _of_all(operator.made().calls(task), args)
    solve = of.chat + of.before + of.frame + of.question
    for arm in {answering(arm): arm for arm in arms}.values():
        if arm.rationales in ("aligned", "unaligned"):
            wanted = min(task.examples, task.questions) if arm.questions == "drafted" else task.examples
            yield plain(stage, "tailored rationales", "teacher", wanted, solve, of.rationale, longest)
            if args.regenerate.keep == "majority":
                votes = wanted * args.regenerate.samples
                yield plain(stage, "rationales that vote", "teacher", votes, solve, of.rationale, longest)
    for arm in {rewriting(arm): arm for arm in arms}.values():
        for operator in arm.rewriting:
            yield from _of_all(operator.made().calls(task), args)
    for arm in {arm.key: arm for arm in arms}.values():
        for selector in arm.selectors:
            yield from _of_all(selector.made().calls(task), args)


def _of_all(works: Iterable[Work], args: ArteArgs) -> Iterator[Work]:
    """What is asked of a student is asked of each."""
    return (one.times(len(args.students)) if one.who == "student" else one for one in works)


def per_order(arm: ArmArgs, args: ArteArgs) -> int:
    """Questions that an order of an arm's plan asks for: those of its first planner that says."""
    for planner in arm.planners:
        if isinstance(one := made(planner, args.elicit), PerOrder):
            return one.per_order()
    return args.elicit.questions_per_prompt
