"""Seed questions solved once by the teacher as it was, for few-shot prompts (`elicit.worked_examples`).

The paper's shots are worked solutions. Where the data has none, a seed is otherwise shown as its bare answer, behind
"Let's think step by step": an untouched student is shown not to reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.data.tasks import Task
from arte_plugin.errors import TeacherError
from arte_plugin.language import answers
from arte_plugin.models.model import Model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.operators.solve import solve_orders
from arte_plugin.plan.calls import plain
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import Dropped, WorkedSeed
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import count_rows
from arte_plugin.stages.few_shot import FILE
from arte_plugin.stages.orders import RESIDENTS, Ways
from arte_plugin.stages.rationales import write_rationales
from arte_plugin.stages.stage import Stage

if TYPE_CHECKING:
    from arte_plugin.run.run import Run

STAGE = "elicit/worked"


class WorkedExamples(Stage):
    """Beside stage 1, if asked for: the teacher as it was solves the seed questions, for few-shot prompts."""

    name: ClassVar[str] = STAGE
    what = "the teacher solves the seed questions, to be shown as examples"
    writes = (FILE, "worked_dropped.jsonl")

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        return args.elicit.worked_examples

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        of = task.teacher
        solve = of.chat + of.before + of.frame + of.question
        # Later rounds take those of the first, and all of this is counted once a round.
        calls = task.seeds / args.rounds
        yield plain("elicit", "worked examples", "teacher", calls, solve, of.rationale, args.elicit.max_new_tokens)

    @override
    def models(self, run: "Run") -> list[Model]:
        return [teacher_model(run.cfg, run.args, run.cache)]

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        settings = run.args.elicit
        return {**run.asking(models[0]), "max_new_tokens": settings.max_new_tokens, "prefill": settings.prefill}

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        made = [solve_seeds(task, models[0], run.args.elicit, run.args.sampling_seed) for task in run.tasks]
        solved, dropped = [row for rows, _ in made for row in rows], [row for _, lost in made for row in lost]
        given = sum(bool(one.rationale) for task in run.tasks for one in task.seeds)
        note = f"{given} more come with one" if given else ""
        files: Files = {self.file(run, FILE): solved, self.file(run, "worked_dropped.jsonl"): dropped}
        return files, [count_rows("worked examples", len(solved), dropped, note)], {}

    @override
    def do(self, run: "Run") -> None:
        """Nothing, where a later round takes those of the first."""
        if run.worked_seeds == self.file(run, FILE):
            super().do(run)


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
