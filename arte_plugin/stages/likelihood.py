"""Weighing answers apart from stage 3's scores: where something else than its drafts is shown to a student."""

from collections.abc import Sequence

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.data.tasks import Task
from arte_plugin.models.likelihoods import ask_likelihoods
from arte_plugin.models.model import Model
from arte_plugin.rows import AnswerLikelihood, Draft, PreferenceQuestion
from arte_plugin.signals.likelihood import AnswerLikelihoods, LikelihoodArgs, answer_likelihoods


def weigh(
    task: Task,
    drafts: Sequence[Draft],
    preference_set: Sequence[PreferenceQuestion],
    student: Model,
    settings: ProbeArgs,
) -> list[AnswerLikelihood]:
    """The likelihood of each preference question's right answer, with each draft as the one example.

    As the signal `likelihood` asks for it, with or without the draft's rationale (`settings.score`).
    """
    signal = AnswerLikelihoods(LikelihoodArgs(rationale=settings.score != "likelihood_without_rationale"))
    plan = [(draft, question) for draft in drafts for question in preference_set]
    replies = [signal.reply(task, draft, question, student) for draft, question in plan]
    return answer_likelihoods(plan, ask_likelihoods(student, replies, f"likelihoods {task.name}"), student.name)
