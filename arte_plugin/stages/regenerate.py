"""Stage 6, regeneration: the aligned teacher writes questions and one rationale each (section 3.4, appendix F)."""

from arte_plugin import prompts
from arte_plugin.args import ElicitArgs, RegenerateArgs
from arte_plugin.generation import write_questions, write_rationales
from arte_plugin.models import Model
from arte_plugin.rows import Dropped, TailoredExample
from arte_plugin.tasks import Task

STAGE = "regenerate"


def regenerate(
    task: Task, teacher: Model, settings: RegenerateArgs, asking: ElicitArgs, seed: int
) -> tuple[list[TailoredExample], list[Dropped]]:
    """Tailored examples of one task; `asking` says how questions are asked for, as in stage 1.

    Raises `TeacherError` when the aligned teacher writes nothing usable.
    """
    questions, dropped = write_questions(
        task, teacher, asking,
        wanted=settings.questions, temperature=settings.temperature, max_new_tokens=settings.max_new_tokens,
        stage=STAGE, seed=seed,
    )  # fmt: skip
    asks = [
        (q.question_id, prompts.solve_prompt(task.args.description, task.args.answer, q.question)) for q in questions
    ]
    written, lost = write_rationales(
        task, teacher, asks,
        temperature=0.0, max_new_tokens=settings.max_new_tokens, prefill=asking.prefill, stage=STAGE, seed=seed,
    )  # fmt: skip
    examples = [
        TailoredExample(task.name, question.question, question.target, rationale[0], rationale[1], prompt)
        for question, (_, prompt), rationale in zip(questions, asks, written, strict=True)
        if rationale is not None
    ]
    return examples, dropped + lost
