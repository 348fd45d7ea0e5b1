"""Stage 1, knowledge elicitation: the teacher drafts questions and, for each, a rationale a technique (section 3.1)."""

from arte_plugin import prompts
from arte_plugin.args import ElicitArgs
from arte_plugin.generation import write_questions, write_rationales
from arte_plugin.models import Model
from arte_plugin.rows import Draft, Dropped
from arte_plugin.tasks import Task

STAGE = "elicit"


def elicit(task: Task, teacher: Model, settings: ElicitArgs, seed: int) -> tuple[list[Draft], list[Dropped]]:
    """Drafts of one task: `settings.questions` questions with a rationale for each technique that gave a usable one.

    Raises `TeacherError` when the teacher writes no usable question, or no usable rationale at all.
    """
    questions, dropped = write_questions(
        task, teacher, settings,
        wanted=settings.questions, temperature=settings.temperature, max_new_tokens=settings.max_new_tokens,
        stage=STAGE, seed=seed,
    )  # fmt: skip
    description, answer = task.args.description, task.args.answer
    plan = [(question, name) for question in questions for name in task.args.techniques]
    asks = [
        (
            f"{question.question_id}-{name}",
            prompts.technique_prompt(description, task.args.techniques[name], answer, question.question),
        )
        for question, name in plan
    ]
    written, lost = write_rationales(
        task, teacher, asks,
        temperature=settings.rationale_temperature, max_new_tokens=settings.max_new_tokens, prefill=settings.prefill,
        stage=STAGE, seed=seed,
    )  # fmt: skip
    drafts = [
        Draft(
            draft_id=draft_id,
            task=task.name,
            question_id=question.question_id,
            question=question.question,
            target=question.target,
            technique=name,
            rationale=rationale[0],
            answer=rationale[1],
            question_prompt=question.prompt,
            solve_prompt=prompts.solve_prompt(description, answer, question.question),
        )
        for (question, name), (draft_id, _), rationale in zip(plan, asks, written, strict=True)
        if rationale is not None
    ]
    return drafts, dropped + lost
