"""Best over worst: the paper's pairs (ARTE, arXiv 2406.19227, section 3.3), the default.

Question level: chosen from the best share by s_q, rejected from the worst. Rationale level: each question's best and
worst rationale by s_r, under the plain prompt (prompt erasure).
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.language import answers
from arte_plugin.language.answer_types import AnswerType
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Bounds, Evidence, Scored
from arte_plugin.rows import Draft, Dropped, Level, PreferencePair
from arte_plugin.stages import question_pairs, ties

if TYPE_CHECKING:
    from arte_plugin.stages.shrinkage import Belief

STAGE = "pair"


class BestWorstArgs(Block):
    """They are keys of `arte.pair` itself."""

    quantile: float = Field(
        0.25, gt=0, le=0.5, description="Question-level pairs are drawn from the best and the worst share of this size."
    )
    min_probability: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Pairs are kept only if the student truly prefers what is chosen with at least this probability, "
        "such as 0.9: scores are shrunk to what is usual in the task, by as much as they are noise (empirical Bayes), "
        "and best and worst are chosen by them. 0: every pair, as in the paper.",
    )
    equal_answers: bool = Field(
        False,
        description="Rationale-level pairs only of rationales with the same answer: the two with the widest gap. "
        "Otherwise a pair may teach which answer is right, not how to explain it.",
    )


class BestWorst:
    """Questions of the best share over those of the worst; a question's best rationale over its worst.

    Ties, pairs within the margin, pairs of equal texts and pairs that are too long are dropped.
    """

    Settings: ClassVar[type[Block]] = BestWorstArgs
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing"
    trains: ClassVar[Literal["teacher", "student"]] = "teacher"

    def __init__(self, settings: BestWorstArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """None."""
        return ()

    def pairs(
        self, task: str, drafts: Sequence[Draft], scored: Scored, evidence: Evidence, bounds: Bounds,
        rng: random.Random,
    ) -> Iterator[PreferencePair | Dropped]:  # fmt: skip
        """As `Pairing.pairs`; the question level comes first."""
        beliefs = scored.beliefs() if self.settings.min_probability else None
        of_questions = beliefs.questions if beliefs else {}
        yield from question_level(task, drafts, scored.questions, bounds, rng, self.settings.quantile,
                                  of_questions, self.settings.min_probability)  # fmt: skip
        yield from self._rationale_level(drafts, scored.drafts, bounds, rng, beliefs.drafts if beliefs else {})

    def _rationale_level(
        self, drafts: Sequence[Draft], scored: Mapping[str, float], bounds: Bounds, rng: random.Random,
        believed: "Mapping[str, Belief]",
    ) -> Iterator[PreferencePair | Dropped]:  # fmt: skip
        """Rationales that are too long for the teacher's training leave their place to the next one."""
        settings = self.settings
        made: list[PreferencePair] = []
        for group in by_question(drafts).values():
            score = by_belief({one.draft_id: scored[one.draft_id] for one in group}, believed)
            fitting = pairable(group, score, settings, bounds)
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
                reason = no_preference("rationale", best_score, worst_score, bounds.margin) or _improbable(
                    "rationale", best.draft_id, worst.draft_id, believed, settings.min_probability
                )
            if reason:
                yield Dropped(STAGE, reason, best.task, best.question_id, best.question)
                continue
            made.append(rationale_pair(f"r-{best.question_id}", best, worst, best_score, worst_score))
        yield from at_most(made, bounds.rationale_pairs, "rationale_surplus", rng)


def question_level(
    task: str, drafts: Sequence[Draft], s_q: Mapping[str, float], bounds: Bounds, rng: random.Random, quantile: float,
    believed: "Mapping[str, Belief] | None" = None, min_probability: float = 0.0,
) -> Iterator[PreferencePair | Dropped]:  # fmt: skip
    """Chosen from the best share (`quantile`) by s_q, rejected from the worst; at most `bounds.question_pairs`.

    Questions that share what the teacher saw before it wrote them come first: see `question_pairs`.
    """
    believed = believed or {}
    ranked = ties.ranked(by_belief(s_q, believed), f"{bounds.seed}/{task}/questions/ties")
    share = max(1, int(len(ranked) * quantile)) if len(ranked) > 1 else 0
    candidates = [(best, worst) for best in ranked[:share] for worst in ranked[-share:]] if share else []
    rng.shuffle(candidates)
    first = {question_id: group[0] for question_id, group in by_question(drafts).items()}
    candidates.sort(key=lambda one: not question_pairs.share_a_beginning(first[one[0]], first[one[1]]))
    made = apart = 0
    for best, worst in candidates:
        if made == bounds.question_pairs:
            break
        chosen, rejected = first[best], first[worst]
        if reason := (
            no_preference("question", s_q[best], s_q[worst], bounds.margin)
            or _improbable("question", best, worst, believed, min_probability)
        ):
            yield Dropped(STAGE, reason, chosen.task, f"{best}>{worst}", chosen.question)
            continue
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
        if not all(bounds.fits(one.prompt, one.begun + text) for text in (one.chosen, one.rejected)):
            yield Dropped(STAGE, "question_too_long", one.task, one.pair_id, one.prompt)
            continue
        made += 1
        apart += one.prompt_of != "both"
        yield one


def rationale_pair(
    pair_id: str, chosen: Draft, rejected: Draft, chosen_score: float, rejected_score: float
) -> PreferencePair:
    """A pair of one question's rationales, under the plain prompt."""
    return PreferencePair(
        pair_id=pair_id,
        level="rationale",
        task=chosen.task,
        prompt=chosen.solve_prompt,
        chosen=chosen.rationale,
        rejected=rejected.rationale,
        chosen_score=chosen_score,
        rejected_score=rejected_score,
        chosen_id=chosen.draft_id,
        rejected_id=rejected.draft_id,
    )


def at_most(
    made: Sequence[PreferencePair], most: int, reason: str, rng: random.Random
) -> Iterator[PreferencePair | Dropped]:
    """So many of the pairs, drawn by chance and in their order; the others dropped for `reason`."""
    keep = set(rng.sample(range(len(made)), most) if len(made) > most else range(len(made)))
    yield from (
        Dropped(STAGE, reason, one.task, one.pair_id, one.prompt) for i, one in enumerate(made) if i not in keep
    )
    yield from (one for i, one in enumerate(made) if i in keep)


def pairable(
    group: Sequence[Draft], score: Mapping[str, float], settings: BestWorstArgs, bounds: Bounds
) -> list[Draft]:
    """Of one question's drafts, those that its pair is made of the first and the last of: the best first."""
    by_id = {draft.draft_id: draft for draft in group}
    order = ties.ranked(score, ties.of_question(bounds.seed, group[0].task, group[0].question_id))
    fitting = [one for one in map(by_id.__getitem__, order) if bounds.fits(one.solve_prompt, one.rationale)]
    return _of_one_answer(fitting, score, bounds.answer) if settings.equal_answers and len(fitting) > 1 else fitting


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


def no_preference(level: Level, best: float, worst: float, margin: float) -> str | None:
    """Why two scores make no pair; None where they do."""
    # Scores are sums of n equal shares: differences below this are rounding, not preference.
    gap = best - worst
    if gap < -1e-9:
        # `min_probability` ranks by shrunken scores, and these may turn round what the scores themselves say.
        return f"{level}_reversed"
    if gap < 1e-9:
        return f"{level}_tie"
    return f"{level}_within_margin" if gap <= margin + 1e-9 and margin > 0 else None


def by_belief(scores: Mapping[str, float], believed: "Mapping[str, Belief]") -> dict[str, float]:
    """What is ranked by: the scores, or what is believed of them."""
    return {key: believed[key].mean if believed else score for key, score in scores.items()}


def _improbable(level: Level, best: str, worst: str, believed: "Mapping[str, Belief]", least: float) -> str | None:
    from arte_plugin.stages.shrinkage import above

    if believed and above(believed[best], believed[worst]) < least:
        return f"{level}_improbable"
    return None


def by_question(drafts: Iterable[Draft]) -> dict[str, list[Draft]]:
    """Drafts by question id, in their order."""
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(draft.question_id, []).append(draft)
    return groups
