"""Stage 4, preference pairs: what the teacher is aligned with (paper, section 3.3). No model is asked here."""

import random
from collections.abc import Callable, Mapping, Sequence

from arte_plugin.config.pair import PairArgs
from arte_plugin.config.tasks import AnswerType
from arte_plugin.errors import DataError
from arte_plugin.pairings.best_worst import STAGE, BestWorst, by_belief, by_question, pairable
from arte_plugin.plugs import Bounds, Evidence, Pairing, Scored
from arte_plugin.rows import Draft, Dropped, PreferencePair
from arte_plugin.stages.question_scores import question_scores
from arte_plugin.stages.shrinkage import Shrunken

#: Tells whether prompt and completion fit into the teacher's `sequence_len`.
Fits = Callable[[str, str], bool]
#: What is believed of a task's scores, by the task's name.
Believed = Callable[[str], Shrunken]


def pair(
    drafts: Sequence[Draft],
    scored: Mapping[str, float],
    settings: PairArgs,
    seed: int,
    fits: Fits,
    believed: Believed | None = None,
    kinds: Mapping[str, AnswerType] | None = None,
    pairing: Pairing | None = None,
    evidence: Mapping[str, Evidence] | None = None,
    s_q: Mapping[str, float] | None = None,
) -> tuple[list[PreferencePair], list[Dropped]]:
    """Question-level and rationale-level pairs of all tasks, in the order of the tasks; `scored` is s_r by draft id.

    `believed` has the shrunken scores of a task, for `settings.min_probability`; `kinds` what an answer is, by task,
    for `settings.equal_answers`: of others only equal strings are one answer. Without `pairing`, best over worst.
    `s_q` are questions' scores by id, where signals measured these: a question that has none makes no question pair.
    Raises `DataError` when drafts and scores do not belong together, or when not one pair is left.
    """
    usable = [draft for draft in drafts if draft.draft_id in scored]
    dropped = [
        Dropped(STAGE, "no_score", draft.task, draft.draft_id, draft.question)
        for draft in drafts
        if draft.draft_id not in scored
    ]
    if not usable:
        raise DataError("No draft has a score: the drafts and the scores come from different runs.")
    strategy = pairing or BestWorst(settings)
    pairs: list[PreferencePair] = []
    for task in dict.fromkeys(draft.task for draft in usable):
        of_task = [draft for draft in usable if draft.task == task]
        s_r = {draft.draft_id: scored[draft.draft_id] for draft in of_task}
        of_questions = question_scores(of_task, scored)
        if s_q:
            dropped += [
                Dropped(STAGE, "question_without_score", task, name, group[0].question)
                for name, group in by_question(of_task).items()
                if name not in s_q
            ]
            of_questions = {name: s_q[name] for name in of_questions if name in s_q}
        values = Scored(s_r, of_questions, _beliefs(believed, task))
        bounds = _bounds(settings, seed, fits, (kinds or {}).get(task))
        rng = random.Random(f"{seed}/{task}/pairs")
        for row in strategy.pairs(task, of_task, values, (evidence or {}).get(task, Evidence()), bounds, rng):
            if isinstance(row, Dropped):
                dropped.append(row)
            else:
                pairs.append(row)
    if not pairs:
        raise DataError(_no_pairs(dropped))
    return pairs, dropped


def rationale_ranks(
    drafts: Sequence[Draft],
    scored: Mapping[str, float],
    settings: PairArgs,
    seed: int,
    fits: Fits,
    believed: Believed | None = None,
    kinds: Mapping[str, AnswerType] | None = None,
) -> dict[tuple[str, str], list[float]]:
    """By task and question id, what the rationales that its pair was to be made of are ranked by, the best first.

    The arguments are those of `pair`, with best over worst as the pairing.
    """
    found: dict[tuple[str, str], list[float]] = {}
    usable = [draft for draft in drafts if draft.draft_id in scored]
    for task in dict.fromkeys(draft.task for draft in usable):
        beliefs = believed(task).drafts if believed and settings.min_probability else {}
        bounds = _bounds(settings, seed, fits, (kinds or {}).get(task))
        for question_id, group in by_question(draft for draft in usable if draft.task == task).items():
            score = by_belief({one.draft_id: scored[one.draft_id] for one in group}, beliefs)
            found[task, question_id] = [score[one.draft_id] for one in pairable(group, score, settings, bounds)]
    return found


def _bounds(settings: PairArgs, seed: int, fits: Fits, kind: AnswerType | None) -> Bounds:
    return Bounds(seed, fits, kind, settings.question_pairs, settings.rationale_pairs, settings.margin)


def _beliefs(believed: Believed | None, task: str) -> Callable[[], Shrunken]:
    def beliefs() -> Shrunken:
        if believed is None:
            raise DataError("These scores come without what was counted for them: nothing can be believed of them.")
        return believed(task)

    return beliefs


def _no_pairs(dropped: Sequence[Dropped]) -> str:
    reasons: dict[str, int] = {}
    for row in dropped:
        reasons[row.reason] = reasons.get(row.reason, 0) + 1
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "nothing to pair"
    return (
        f"Not one preference pair could be made ({listed}). Ties come from too few preference questions or a "
        "student that answers none: raise `arte.preference_set.size` or `arte.elicit.questions`. Pairs that are "
        "too long need a larger `sequence_len`, improbable ones more preference questions or a lower "
        "`pair.min_probability`."
    )
