"""Stage 4, preference pairs: what the teacher is aligned with (paper, section 3.3). No model is asked here."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from arte_plugin.config.pair import PairArgs
from arte_plugin.config.tasks import AnswerType
from arte_plugin.errors import DataError
from arte_plugin.language import answers
from arte_plugin.rows import Draft, Dropped, Level, PreferencePair
from arte_plugin.stages import question_pairs, ties
from arte_plugin.stages.question_scores import question_scores
from arte_plugin.stages.shrinkage import Belief, Shrunken, above

STAGE = "pair"

#: Tells whether prompt and completion fit into the teacher's `sequence_len`.
Fits = Callable[[str, str], bool]


def pair(
    drafts: Sequence[Draft],
    scored: Mapping[str, float],
    settings: PairArgs,
    seed: int,
    fits: Fits,
    believed: Mapping[str, Shrunken] | None = None,
    kinds: Mapping[str, AnswerType] | None = None,
) -> tuple[list[PreferencePair], list[Dropped]]:
    """Question-level and rationale-level pairs of all tasks, in the order of the tasks; `scored` is s_r by draft id.

    For `settings.min_probability`, `believed` has the shrunken scores of each task: best and worst are chosen by them.
    For `settings.equal_answers`, `kinds` has what an answer is, by task; of others only equal strings are one answer.
    Ties, pairs within the margin, pairs of equal texts and pairs that are too long are dropped and counted.
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
    pairs: list[PreferencePair] = []
    for task in dict.fromkeys(draft.task for draft in usable):
        of_task = [draft for draft in usable if draft.task == task]
        rng = random.Random(f"{seed}/{task}/pairs")
        for made, lost in (
            _question_level(of_task, scored, settings, seed, rng, fits, believed[task].questions if believed else {}),
            _rationale_level(
                of_task,
                scored,
                settings,
                seed,
                rng,
                fits,
                believed[task].drafts if believed else {},
                (kinds or {}).get(task),
            ),
        ):
            pairs += made
            dropped += lost
    if not pairs:
        raise DataError(_no_pairs(dropped))
    return pairs, dropped


def _question_level(
    drafts: Sequence[Draft], scored: Mapping[str, float], settings: PairArgs, seed: int, rng: random.Random, fits: Fits,
    believed: Mapping[str, Belief],
) -> tuple[list[PreferencePair], list[Dropped]]:  # fmt: skip
    """Chosen from the best share by s_q (the mean of a question's s_r), rejected from the worst.

    Questions that share what the teacher saw before it wrote them come first: see `question_pairs`.
    """
    by_question = _by_question(drafts)
    s_q = question_scores(drafts, scored)
    ranked = ties.ranked(_by_belief(s_q, believed), f"{seed}/{drafts[0].task}/questions/ties")
    share = max(1, int(len(ranked) * settings.quantile)) if len(ranked) > 1 else 0
    candidates = [(best, worst) for best in ranked[:share] for worst in ranked[-share:]] if share else []
    rng.shuffle(candidates)
    first = {question_id: group[0] for question_id, group in by_question.items()}
    candidates.sort(key=lambda one: not question_pairs.share_a_beginning(first[one[0]], first[one[1]]))
    made: list[PreferencePair] = []
    dropped: list[Dropped] = []
    for best, worst in candidates:
        if len(made) == settings.question_pairs:
            break
        chosen, rejected = first[best], first[worst]
        if reason := (
            _no_preference("question", s_q[best], s_q[worst], settings)
            or _improbable("question", best, worst, believed, settings)
        ):
            dropped.append(Dropped(STAGE, reason, chosen.task, f"{best}>{worst}", chosen.question))
            continue
        apart = sum(made_before.prompt_of != "both" for made_before in made)
        one = PreferencePair(
            pair_id=f"q-{best}-{worst}",
            level="question",
            task=chosen.task,
            chosen_score=s_q[best],
            rejected_score=s_q[worst],
            chosen_id=best,
            rejected_id=worst,
            **question_pairs.texts(chosen, rejected, turn="rejected" if apart % 2 else "chosen"),
        )
        # Another candidate takes its place.
        if not all(fits(one.prompt, one.begun + text) for text in (one.chosen, one.rejected)):
            dropped.append(Dropped(STAGE, "question_too_long", one.task, one.pair_id, one.prompt))
            continue
        made.append(one)
    return made, dropped


def _rationale_level(
    drafts: Sequence[Draft], scored: Mapping[str, float], settings: PairArgs, seed: int, rng: random.Random, fits: Fits,
    believed: Mapping[str, Belief], kind: AnswerType | None,
) -> tuple[list[PreferencePair], list[Dropped]]:  # fmt: skip
    """Each question's best and worst rationale by s_r, under the plain prompt (prompt erasure).

    Rationales that are too long for the teacher's training leave their place to the next one.
    """
    made: list[PreferencePair] = []
    dropped: list[Dropped] = []
    for group in _by_question(drafts).values():
        score = _by_belief({one.draft_id: scored[one.draft_id] for one in group}, believed)
        fitting = _pairable(group, score, settings, seed, fits, kind)
        best, worst = (fitting[0], fitting[-1]) if fitting else (group[0], group[0])
        best_score, worst_score = scored[best.draft_id], scored[worst.draft_id]
        reason = None
        if len(group) < 2:
            reason = "rationale_alone"
        elif len(fitting) < 2:
            reason = "rationale_answers_differ" if fitting and settings.equal_answers else "rationale_too_long"
        elif best.rationale == worst.rationale:
            reason = "rationale_same_text"
        else:
            reason = _no_preference("rationale", best_score, worst_score, settings) or _improbable(
                "rationale", best.draft_id, worst.draft_id, believed, settings
            )
        if reason:
            dropped.append(Dropped(STAGE, reason, best.task, best.question_id, best.question))
            continue
        made.append(
            PreferencePair(
                pair_id=f"r-{best.question_id}",
                level="rationale",
                task=best.task,
                prompt=best.solve_prompt,
                chosen=best.rationale,
                rejected=worst.rationale,
                chosen_score=best_score,
                rejected_score=worst_score,
                chosen_id=best.draft_id,
                rejected_id=worst.draft_id,
            )
        )
    if len(made) > settings.rationale_pairs:
        keep = set(rng.sample(range(len(made)), settings.rationale_pairs))
        surplus = [one for i, one in enumerate(made) if i not in keep]
        dropped += [Dropped(STAGE, "rationale_surplus", one.task, one.pair_id, one.prompt) for one in surplus]
        made = [one for i, one in enumerate(made) if i in keep]
    return made, dropped


def rationale_ranks(
    drafts: Sequence[Draft],
    scored: Mapping[str, float],
    settings: PairArgs,
    seed: int,
    fits: Fits,
    believed: Mapping[str, Shrunken] | None = None,
    kinds: Mapping[str, AnswerType] | None = None,
) -> dict[tuple[str, str], list[float]]:
    """By task and question id, what the rationales that its pair was to be made of are ranked by, the best first.

    The arguments are those of `pair`.
    """
    found: dict[tuple[str, str], list[float]] = {}
    usable = [draft for draft in drafts if draft.draft_id in scored]
    for task in dict.fromkeys(draft.task for draft in usable):
        beliefs = believed[task].drafts if believed else {}
        for question_id, group in _by_question(draft for draft in usable if draft.task == task).items():
            score = _by_belief({one.draft_id: scored[one.draft_id] for one in group}, beliefs)
            pairable = _pairable(group, score, settings, seed, fits, (kinds or {}).get(task))
            found[task, question_id] = [score[one.draft_id] for one in pairable]
    return found


def _pairable(
    group: Sequence[Draft], score: Mapping[str, float], settings: PairArgs, seed: int, fits: Fits,
    kind: AnswerType | None,
) -> list[Draft]:  # fmt: skip
    """Of one question's drafts, those that its pair is made of the first and the last of: the best first."""
    by_id = {draft.draft_id: draft for draft in group}
    order = ties.ranked(score, ties.of_question(seed, group[0].task, group[0].question_id))
    fitting = [one for one in map(by_id.__getitem__, order) if fits(one.solve_prompt, one.rationale)]
    return _of_one_answer(fitting, score, kind) if settings.equal_answers and len(fitting) > 1 else fitting


def _of_one_answer(ranked: Sequence[Draft], scored: Mapping[str, float], kind: AnswerType | None) -> list[Draft]:
    """Of a question's rationales, the best first, those with the answer whose best and worst are furthest apart."""

    def agree(one: str, other: str) -> bool:
        return one == other or (kind is not None and answers.same(one, other, kind))

    by_answer: dict[str, list[Draft]] = {}
    for draft in ranked:
        answer = next((known for known in by_answer if agree(draft.answer, known)), draft.answer)
        by_answer.setdefault(answer, []).append(draft)
    # The first of several: ties of the ranking have been settled by chance.
    return max(by_answer.values(), key=lambda of: (scored[of[0].draft_id] - scored[of[-1].draft_id], len(of)))


def _no_preference(level: Level, best: float, worst: float, settings: PairArgs) -> str | None:
    # Scores are sums of n equal shares: differences below this are rounding, not preference.
    gap = best - worst
    if gap < -1e-9:
        # `min_probability` ranks by shrunken scores, and these may turn round what the scores themselves say.
        return f"{level}_reversed"
    if gap < 1e-9:
        return f"{level}_tie"
    return f"{level}_within_margin" if gap <= settings.margin + 1e-9 and settings.margin > 0 else None


def _by_belief(scores: Mapping[str, float], believed: Mapping[str, Belief]) -> dict[str, float]:
    return {key: believed[key].mean if believed else score for key, score in scores.items()}


def _improbable(level: Level, best: str, worst: str, believed: Mapping[str, Belief], settings: PairArgs) -> str | None:
    if believed and above(believed[best], believed[worst]) < settings.min_probability:
        return f"{level}_improbable"
    return None


def _by_question(drafts: Iterable[Draft]) -> dict[str, list[Draft]]:
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(draft.question_id, []).append(draft)
    return groups


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
