"""Seed questions solved once by the teacher as it was, for few-shot prompts (`elicit.worked_examples`).

The paper's shots are worked solutions. Where the data has none, a seed is otherwise shown as its bare answer, behind
"Let's think step by step": an untouched student is shown not to reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.data.tasks import Task
from arte_plugin.errors import TeacherError
from arte_plugin.language import answers
from arte_plugin.models.model import Model
from arte_plugin.operators.solve import solve_orders
from arte_plugin.rows import Dropped, WorkedSeed
from arte_plugin.stages.orders import RESIDENTS, Ways
from arte_plugin.stages.rationales import write_rationales

STAGE = "elicit/worked"
FILE = "worked_seeds.jsonl"


def solve_seeds(task: Task, teacher: Model, settings: ElicitArgs, seed: int) -> tuple[list[WorkedSeed], list[Dropped]]:
    """A greedy rationale under the plain prompt for each seed question without one, where it reaches the target.

    Raises `TeacherError` when not one rationale ends in an answer.
    """
    unsolved = [one for one in task.seeds if not one.rationale]
    if not unsolved:
        return [], []
    kind = task.args.answer
    ways = Ways(STAGE, seed, 0.0, settings.max_new_tokens, settings.prefill)
    try:
        written, dropped = write_rationales(task, teacher, solve_orders(unsolved), RESIDENTS, ways)
    except TeacherError as error:
        raise TeacherError(f"Seed questions as worked examples (`elicit.worked_examples`): {error}") from None
    solved: list[WorkedSeed] = []
    for one, rationale in zip(unsolved, written, strict=True):
        if rationale is None:
            continue
        if answers.same(rationale[1], one.target, kind):
            solved.append(WorkedSeed(task.name, one.question_id, one.question, one.target, rationale[0]))
        else:
            text = f"{one.target} is right: {rationale[0]}"
            dropped.append(Dropped(STAGE, "rationale_other_than_target", task.name, one.question_id, text))
    return solved, dropped


def with_worked_examples(tasks: Sequence[Task], solved: Iterable[WorkedSeed], shots: int) -> list[Task]:
    """The tasks as they are shown in few-shot prompts: the solved seeds with their solutions.

    Seeds without a solution are left out where `shots` others have one, and come last where not.
    """
    rationales: Mapping[tuple[str, str], str] = {(one.task, one.question_id): one.rationale for one in solved}
    shown = []
    for task in tasks:
        seeds = [
            one if one.rationale else replace(one, rationale=rationales.get((task.name, one.question_id), ""))
            for one in task.seeds
        ]
        worked = [one for one in seeds if one.rationale]
        bare = [] if len(worked) >= shots else [one for one in seeds if not one.rationale]
        shown.append(replace(task, seeds=worked + bare))
    return shown
