"""Does the aligned teacher still solve what it solved before?

A teacher that was trained on what a student likes may come to write what is easy to follow and wrong. Labelled
questions tell: the validation questions, which it was never trained on, put to it as it was and as it is ("On Teacher
Hacking", 2502.02671, has the student's distance to an oracle beside that to its teacher; labels are the oracle here).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.tasks import Task
from arte_plugin.diagnostics.cells import most_frequent, percent
from arte_plugin.diagnostics.paired import change
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence, Lines
from arte_plugin.rows import Attempt, Result

#: What both made of the same questions: (before, after) of each.
Solved = Sequence[tuple[Attempt, Attempt]]


class HollowingSettings(Block):
    """How much is asked."""

    questions: int = Field(
        100, ge=1, description="Validation questions of a task at most, the first ones, put to both teachers."
    )


class Hollowing:
    """Validation questions solved by the teacher before and after its alignment."""

    Settings: ClassVar[type[Block]] = HollowingSettings
    version: ClassVar[int] = 2
    costs: ClassVar[str] = "the teacher as it was and the aligned one: a reply to each of `questions`"
    title: ClassVar[str] = "Hollowing: does the aligned teacher still solve the validation questions?"

    def __init__(self, settings: HollowingSettings):
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """Each question once by either teacher."""
        return [solving(sizes, self.settings.questions)]

    def table(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], results: Sequence[Result], asking: Asking
    ) -> Lines:
        """A line for each task, and one for all; beside what is solved stands what can be read, and one answer to all.

        Unreadable replies count as not solved. Several tasks count the same in what stands for all.
        """
        solved = solve(tasks, asking, self.settings.questions)
        lines = [
            ["task", "n", "readable before", "after", "solved before", "solved after", "lost", "won", "difference",
             "95 % interval", "p", "one answer to all"]
        ]  # fmt: skip
        for name, rows in (*solved.items(), *([("(all)", [])] if len(solved) > 1 else [])):
            of_tasks = [rows] if rows else list(solved.values())
            found = change([rights(one) for one in of_tasks])
            if found is None:
                continue
            together = [row for one in of_tasks for row in one]
            readable = [sum(pair[side].outcome != "unparsed" for pair in together) / found.n for side in (0, 1)]
            of_task = next((task for task in tasks if task.name == name), None)
            targets = [one.target for one in of_task.validation[: found.n]] if of_task else []
            before, after, *rest = found.cells()
            counts = ["" if count is None else str(count) for count in (found.lost, found.gained)]
            chance = most_frequent(targets, of_task.args.answer) if of_task else None
            lines.append(
                [name, str(found.n), *map(percent, readable), before, after, *counts, *rest,
                 "" if chance is None else percent(chance)]
            )  # fmt: skip
        return lines


def solve(tasks: Sequence[Task], asking: Asking, count: int) -> dict[str, Solved]:
    """The first `count` validation questions of each task by both teachers; all by one before the other is asked."""
    by_teacher = [
        {task.name: _greedy(asking.attempts(teacher, task, task.validation[:count])) for task in tasks}
        for teacher in (asking.before, asking.teacher)
    ]
    before, after = by_teacher
    return {
        name: [(attempt, after[name][question]) for question, attempt in of_task.items()]
        for name, of_task in before.items()
    }


def rights(solved: Solved) -> list[tuple[bool, bool]]:
    """Whether each question was solved, before and after."""
    return [(before.outcome == "correct", after.outcome == "correct") for before, after in solved]


def solving(sizes: Sizes, count: int) -> Work:
    """The calls of `solve` for a task of these sizes."""
    of, calls = sizes.teacher, 2.0 * min(count, sizes.validation)
    prompt = of.chat + of.before + of.frame + of.question
    new = calls * of.rationale
    return Work("diagnose", "validation questions solved", "teacher", calls, calls * prompt, calls * prompt, new, new)


def _greedy(attempts: Iterable[Attempt]) -> dict[str, Attempt]:
    return {one.question_id: one for one in attempts if one.sample == 0}
