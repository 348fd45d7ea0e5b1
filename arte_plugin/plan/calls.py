"""Calls and tokens of a run, from its settings: what the stages count theirs with (`Stage.calls`)."""

import math

from arte_plugin.config.arte import ArteArgs
from arte_plugin.plan.work import Sizes, Work

#: Tokens of a page; half of one is lost, in the mean, at the end of what is shared.
PAGE = 16

#: Tokens of an answer between its tags.
BARE = 8


def question_calls(questions: float, per_call: int) -> int:
    """Calls of the first wave, which asks for a quarter more than is wanted."""
    return math.ceil(1.25 * math.ceil(questions) / per_call)


def plain(stage: str, what: str, who: str, calls: float, prompt: float, new: float, most: float) -> Work:
    """Calls that share nothing: tokens of a prompt, of a reply as expected, and of the longest."""
    return Work(stage, what, who, calls, calls * prompt, calls * prompt, calls * new, calls * most)


def questions(
    stage: str, what: str, args: ArteArgs, task: Sizes, wanted: float, longest: int, per_call: int | None = None
) -> Work:
    """Calls by which the teacher is asked for `wanted` new questions."""
    of, per_call = task.teacher, per_call or args.elicit.questions_per_prompt
    new = min(per_call * of.written_question, longest)
    return plain(stage, what, "teacher", question_calls(wanted, per_call), of.chat + of.question_prompt, new, longest)


def piloted(args: ArteArgs, task: Sizes) -> int:
    """How many of a task's drafts respond in stage 2, and so are probed on all validation questions."""
    settings = args.preference_set
    return min(settings.pilot_drafts, task.drafts) if settings.method == "irt" else 0


def probes_made(args: ArteArgs, task: Sizes) -> int:
    """Probes of one student in stage 3: all drafts on the whole preference set, or what racing leaves of them."""
    settings, probes = args.probe, task.drafts * task.size
    if settings.score == "answers" and settings.budget == "racing":
        race = settings.racing
        # All drafts have their first questions, then goes on what is left of the share.
        first = task.drafts * min(race.first, task.size)
        return min(probes, max(first, max(int(race.share * probes), 1)))
    return probes


def of_drafts(stage: str, what: str, args: ArteArgs, task: Sizes, drafts: int, probes: int) -> Work:
    """Probes whose shared part is computed once for each draft."""
    of = task.student
    weighed = args.probe.score != "answers" and what != "pilot"
    rationale = BARE if args.probe.score == "likelihood_without_rationale" else of.rationale
    shared = of.chat_before + of.before + of.question + of.frame + rationale
    own = of.question + of.frame + of.chat_behind
    new, longest = (0.0, 0) if weighed else (of.reply, args.probe.max_new_tokens)
    return Work(
        stage, what, "student", probes, probes * (shared + own), drafts * shared + probes * (own + PAGE / 2),
        probes * new, probes * longest,
    )  # fmt: skip
