"""The tasks as they stand in few-shot prompts, with seed questions that the teacher has solved (`worked_examples`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from arte_plugin.data.tasks import Task
from arte_plugin.rows import WorkedSeed

#: Of stage 1's folder.
FILE = "worked_seeds.jsonl"


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
