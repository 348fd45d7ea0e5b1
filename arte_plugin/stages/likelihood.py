"""Stage 3 without generation (`probe.score: likelihood`): how likely the student finds the right answers.

Not in the paper, whose score is the share of right answers that the student writes. What is measured, and how well it
goes with the paper's score, is in `docs/fewer-calls.md`.
"""

import math
from collections.abc import Sequence

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Reply
from arte_plugin.language import prompts
from arte_plugin.models.likelihoods import ask_likelihoods
from arte_plugin.models.model import Model
from arte_plugin.rows import AnswerLikelihood, Draft, PreferenceQuestion, Score, wilson


def weigh(
    task: Task,
    drafts: Sequence[Draft],
    preference_set: Sequence[PreferenceQuestion],
    student: Model,
    settings: ProbeArgs,
) -> list[AnswerLikelihood]:
    """The likelihood of each preference question's right answer, with each draft as the one example.

    The prompt is that of the probes; the reply begins with the answer's tag straight away, and what is weighed is the
    answer and the tag that ends it: `True</ans>`. Without a rationale, the example is answered in the same way.
    """
    plan = [(draft, question) for draft in drafts for question in preference_set]
    replies = [reply(task, draft, question, student, settings) for draft, question in plan]
    found = ask_likelihoods(student, replies, f"likelihoods {task.name}")
    return [
        AnswerLikelihood(
            draft_id=draft.draft_id,
            preference_id=question.preference_id,
            task=task.name,
            student=student.name,
            log_probability=one.log_probability,
            tokens=one.tokens,
        )
        for (draft, question), one in zip(plan, found, strict=True)
    ]


def reply(task: Task, draft: Draft, question: PreferenceQuestion, student: Model, settings: ProbeArgs) -> Reply:
    """What the student is shown, and the right answer behind it."""
    example = draft.rationale
    if settings.score == "likelihood_without_rationale":
        example = f"{prompts.ANSWER_BEGIN}{draft.answer}{prompts.ANSWER_END}"
    shown = prompts.solve_prompt(
        task.args.description, task.args.answer, question.question, [(draft.question, example)]
    )
    return Reply(
        prompt=student.renderer.prompt(shown, prefill=prompts.ANSWER_BEGIN),
        text=f"{question.target}{prompts.ANSWER_END}",
        group=draft.draft_id,
    )


def likelihood_scores(drafts: Sequence[Draft], rows: Sequence[AnswerLikelihood]) -> list[Score]:
    """s_r of every draft: the mean probability of the right answers.

    The interval is Wilson's for that many right answers, which is wide: probabilities spread less than answers do.
    """
    question_of = {draft.draft_id: draft.question_id for draft in drafts}
    by_draft: dict[tuple[str, str], list[AnswerLikelihood]] = {}
    for row in rows:
        by_draft.setdefault((row.draft_id, row.student), []).append(row)
    scores = []
    for (draft_id, student), of_draft in by_draft.items():
        total, n = sum(math.exp(row.log_probability) for row in of_draft), len(of_draft)
        low, high = wilson(total, n)
        scores.append(
            Score(
                draft_id=draft_id,
                question_id=question_of[draft_id],
                task=of_draft[0].task,
                student=student,
                score=total / n,
                n=n,
                low=low,
                high=high,
                unparsed=0,
            )
        )
    return scores
