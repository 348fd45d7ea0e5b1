"""One probe: what the student is asked, and the row that its reply makes (paper, section 3.2)."""

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Request
from arte_plugin.language import answers, prompts
from arte_plugin.models.model import Model
from arte_plugin.models.student_replies import Ask, StudentReply
from arte_plugin.rows import Draft, PreferenceQuestion, Probe


def probe_request(
    task: Task, draft: Draft, question: PreferenceQuestion, student: Model, settings: ProbeArgs
) -> Request:
    """What the student is asked: the draft as the example, then the question."""
    example = [(draft.question, draft.rationale)]
    text = prompts.solve_prompt(task.args.description, task.args.answer, question.question, example)
    return Request(
        prompt=student.renderer.prompt(text),
        group=draft.draft_id,
        max_new_tokens=settings.max_new_tokens,
        temperature=0.0,
        seed=0,
        stop=prompts.RATIONALE_STOP,
        answer=task.args.answer,
    )


def asking_again(task: Task, student: Model, settings: ProbeArgs) -> Ask | None:
    """Who is asked for the answer behind a reply without one; None: nobody."""
    if not settings.ask_again:
        return None
    return lambda requests: student.ask(requests, f"probe {task.name}: asked again")


def judged(task: Task, draft: Draft, question: PreferenceQuestion, student: Model, reply: StudentReply) -> Probe:
    """The row that a student's reply makes."""
    answer, outcome = answers.judge(reply.text, question.target, task.args.answer)
    return Probe(
        draft_id=draft.draft_id,
        preference_id=question.preference_id,
        task=task.name,
        student=student.name,
        response=reply.text,
        answer=answer,
        outcome=outcome,
        finish=reply.finish,
        new_tokens=reply.new_tokens,
        asked_again=reply.asked_again,
    )
