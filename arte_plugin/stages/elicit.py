"""Stage 1, knowledge elicitation: the teacher drafts questions and, for each, a rationale a technique (section 3.1)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.tasks import AnswerType
from arte_plugin.data.tasks import Task
from arte_plugin.errors import TeacherError
from arte_plugin.language import prompts
from arte_plugin.models.model import Model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.plan.calls import plain, questions
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.planners.paper import paper_orders
from arte_plugin.rows import Draft, Dropped, Order
from arte_plugin.run.folder import Made, question_count
from arte_plugin.run.manifest import count_rows
from arte_plugin.stages import near_duplicates
from arte_plugin.stages.agreement import disagreement_note, majority, reason_to_drop
from arte_plugin.stages.near_duplicates import near_generated, near_splits
from arte_plugin.stages.new_questions import write_questions
from arte_plugin.stages.orders import RESIDENTS, Ways
from arte_plugin.stages.rationales import write_rationales
from arte_plugin.stages.stage import Stage
from arte_plugin.stages.worked_examples import solve_seeds

if TYPE_CHECKING:
    from arte_plugin.run.run import Run

STAGE = "elicit"


class Elicit(Stage):
    """Stage 1."""

    name: ClassVar[str] = STAGE
    what = "the teacher drafts questions, and rationales by several techniques"
    writes = ("drafts.jsonl", "dropped.jsonl", near_duplicates.FILE)

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        return makes_drafts

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        of, longest = task.teacher, args.elicit.max_new_tokens
        yield questions(STAGE, "draft questions", args, task, task.questions, longest)
        technique = of.chat + of.technique + of.question
        yield plain(STAGE, "rationales", "teacher", task.drafts, technique, of.rationale, longest)

    @override
    def models(self, run: "Run") -> list[Model]:
        return [teacher_model(run.cfg, run.args, run.cache)]

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        return {**run.asking(models[0]), "elicit": run.args.elicit.decisive("batch_size", "worked_examples")}

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        [teacher] = models
        settings, seed = run.args.elicit, run.args.sampling_seed
        drafts: list[Draft] = []
        dropped: list[Dropped] = []
        held: list[int] = []
        for task in run.tasks:
            made, lost, in_replies = elicit(task, teacher, settings, seed)
            if settings.worked_examples:
                # Into the cache, while the teacher is here.
                solve_seeds(task, teacher, settings, seed)
            drafts += made
            held += in_replies
            dropped += lost
        lost = [row for row in dropped if row.reason.startswith("rationale")]
        with_draft = {(draft.task, draft.question_id) for draft in drafts}
        # A rationale's id begins with its question's.
        questions = with_draft | {(row.task, row.id.partition("-")[0]) for row in lost}
        without = len(questions) - len(with_draft)
        counts = [
            question_count(
                len(questions), settings.questions * len(run.tasks), [row for row in dropped if row not in lost], held,
                settings.questions_per_prompt,
            ),
            count_rows("drafts", len(drafts), lost, f"{without} questions without any" if without else ""),
        ]  # fmt: skip
        kinds = [run.kinds[draft.task] for draft in drafts]
        if wrong := disagreement_note([(draft.answer, draft.target) for draft in drafts], kinds):
            counts[1].note += f"{', ' if without else ''}{wrong}"
        near = [row for task in run.tasks for row in near_splits(task)]
        for task in run.tasks:
            written = {draft.question_id: draft.question for draft in drafts if draft.task == task.name}
            near += near_generated(task, "drafts", list(written.values()))
        return {
            self.file(run, near_duplicates.FILE): near_duplicates.as_json(near),
            self.file(run, "drafts.jsonl"): drafts,
            self.file(run, "dropped.jsonl"): dropped,
        }, counts, {}  # fmt: skip


def elicit(task: Task, teacher: Model, settings: ElicitArgs, seed: int) -> tuple[list[Draft], list[Dropped], list[int]]:
    """Drafts of one task: `settings.questions` questions with a rationale for each technique that gave a usable one.

    Then what was dropped, and how many questions each reply held.
    Raises `TeacherError` when the teacher writes no usable question, or no usable rationale at all.
    """
    ways = Ways(STAGE, seed, settings.temperature, settings.max_new_tokens, settings.prefill, settings.max_calls)
    plan = paper_orders(task, settings.seeds_per_prompt, settings.questions_per_prompt, STAGE, seed)
    asked = write_questions(task, teacher, plan, RESIDENTS, ways, settings.questions)
    description, answer = task.args.description, task.args.answer
    techniques = [(question, name) for question in asked.kept for name in task.args.techniques]
    orders = [
        Order(
            f"{question.question_id}-{name}", task.name, "technique",
            parent=question.as_question(), notes=(task.args.techniques[name],),
        )
        for question, name in techniques
    ]  # fmt: skip
    ways = replace(ways, temperature=settings.rationale_temperature)
    written, lost = write_rationales(task, teacher, orders, RESIDENTS, ways)
    drafts = [
        Draft(
            draft_id=order.order_id,
            task=task.name,
            question_id=question.question_id,
            question=question.question,
            target=question.target,
            technique=name,
            rationale=rationale[0],
            answer=rationale[1],
            question_prompt=question.prompt,
            solve_prompt=prompts.solve_prompt(description, answer, question.question),
            question_begun=question.begun,
        )
        for (question, name), order, rationale in zip(techniques, orders, written, strict=True)
        if rationale is not None
    ]
    drafts, disagreeing = _kept(drafts, settings, answer)
    if not drafts:
        raise TeacherError(
            f"Task {task.name}: `elicit.keep: {settings.keep}` keeps none of the {len(disagreeing)} rationales of the "
            f"teacher {teacher.name}. A larger teacher may agree with itself; `elicit.keep: all` keeps every answer."
        )
    return drafts, asked.dropped + lost + disagreeing, asked.held


def _kept(drafts: list[Draft], settings: ElicitArgs, kind: AnswerType) -> tuple[list[Draft], list[Dropped]]:
    """The drafts that `elicit.keep` keeps, and the others."""
    given: dict[str, list[str]] = {}
    for draft in drafts:
        given.setdefault(draft.question_id, []).append(draft.answer)
    voted = {question: majority(all_of_it, kind) for question, all_of_it in given.items()}
    kept: list[Draft] = []
    dropped: list[Dropped] = []
    for draft in drafts:
        reason = reason_to_drop(settings.keep, draft.answer, draft.target, voted[draft.question_id], kind)
        if reason is None:
            kept.append(draft)
        else:
            dropped.append(Dropped(STAGE, reason, draft.task, draft.draft_id, draft.rationale))
    return kept, dropped
