"""Stage 2, first half: respondents answer the validation questions, which makes the matrix that IRT is fitted to."""

import random

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Request
from arte_plugin.errors import DataError
from arte_plugin.language import answers, prompts
from arte_plugin.models.model import Model
from arte_plugin.models.student_replies import student_replies
from arte_plugin.rows import Response


def respond(task: Task, respondent: Model, name: str, shots: int, settings: ProbeArgs, seed: int) -> list[Response]:
    """The greedy answers of one respondent: one model shown `shots` seed questions (paper, section 3.2).

    `name` tells it from other respondents, which may be of the same checkpoint. Raises `DataError` when there are fewer
    seed questions than `shots`.
    """
    if shots > len(task.seeds):
        raise DataError(
            f"Task {task.name}: a respondent at {shots} shots needs {shots} seed questions, there are "
            f"{len(task.seeds)}. Raise `seed_questions` or lower `preference_set.respondents[].shots`."
        )
    description, kind = task.args.description, task.args.answer
    # Worked ones as long as there are enough; a bare answer shows no more than its form.
    worked = [seed_question for seed_question in task.seeds if seed_question.rationale]
    pool = worked if len(worked) >= shots else task.seeds
    shown = random.Random(f"{seed}/{task.name}/shots/{shots}").sample(pool, shots)
    examples = [(q.question, q.rationale or prompts.bare_rationale(q.target)) for q in shown]
    requests = [
        Request(
            prompt=respondent.renderer.prompt(prompts.solve_prompt(description, kind, question.question, examples)),
            group=f"{task.name}/{shots}-shot",
            max_new_tokens=settings.max_new_tokens,
            temperature=0.0,
            seed=0,
            stop=prompts.RATIONALE_STOP,
            answer=kind,
        )
        for question in task.validation
    ]
    what = f"preference set {task.name}: {shots}-shot"
    responses = []
    again = (lambda more: respondent.ask(more, f"{what}: asked again")) if settings.ask_again else None
    replies = student_replies(requests, respondent.ask(requests, what), again)
    for question, reply in zip(task.validation, replies, strict=True):
        answer, outcome = answers.judge(reply.text, question.target, kind)
        responses.append(
            Response(
                respondent=f"{name} {shots}-shot",
                shots=shots,
                task=task.name,
                question_id=question.question_id,
                response=reply.text,
                answer=answer,
                outcome=outcome,
                finish=reply.finish,
                new_tokens=reply.new_tokens,
                asked_again=reply.asked_again,
            )
        )
    return responses
