"""Stage 1, knowledge elicitation: the teacher drafts questions and, for each, a rationale a technique (section 3.1)."""

from dataclasses import replace

from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.tasks import AnswerType
from arte_plugin.data.tasks import Task
from arte_plugin.errors import TeacherError
from arte_plugin.language import prompts
from arte_plugin.models.model import Model
from arte_plugin.planners.paper import paper_orders
from arte_plugin.rows import Draft, Dropped, Order
from arte_plugin.stages.agreement import majority, reason_to_drop
from arte_plugin.stages.new_questions import write_questions
from arte_plugin.stages.orders import RESIDENTS, Ways
from arte_plugin.stages.rationales import write_rationales

STAGE = "elicit"


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
