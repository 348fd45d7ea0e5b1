"""How probably a pair is right (`pair.min_probability`): scores shrunk to what is usual in their task.

Not in the paper, which takes every best and worst. A score of k preference questions is an estimate, and the best of
several estimates is too high. Empirical Bayes: how far questions differ in a task, and rationales within a question, is
estimated from all of its scores; a beta-binomial model then says what each draft's true score is, and how surely.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

import numpy as np

from arte_plugin.errors import DataError
from arte_plugin.rows import Draft, Score
from arte_plugin.stages.question_scores import question_scores

#: What the student made of a preference question, 0..1, by student, draft and question.
Cells = Mapping[tuple[str, str], Mapping[str, float]]

#: Prior right and wrong answers of a task whose rationales do not differ at all.
_NONE_DIFFERS = 1e6


@dataclass(frozen=True)
class Belief:
    """Mean and variance of a true score."""

    mean: float
    variance: float


@dataclass(frozen=True)
class Shrunken:
    """What is believed of the drafts and of the questions of one task, by id."""

    drafts: Mapping[str, Belief]
    questions: Mapping[str, Belief]


def above(higher: Belief, lower: Belief) -> float:
    """The probability that the one is truly higher, by the normal approximation."""
    spread = higher.variance + lower.variance
    gap = higher.mean - lower.mean
    if spread <= 0:
        return 0.5 + 0.5 * float(np.sign(gap))
    return NormalDist().cdf(gap / spread**0.5)


def shrink(drafts: Sequence[Draft], scores: Sequence[Score], cells: Cells, weights: Mapping[str, float]) -> Shrunken:
    """Beliefs of the drafts of one task; of several students, of the mean with these `weights`, as scores are.

    Students are taken to err independently. `cells` make the noise of a score known; without them it is binomial.
    Raises `DataError` for scores that signals other than the paper's have a part in: their noise is not known.
    """
    ids = {draft.draft_id for draft in drafts}
    if made_of := next((row.signals for row in scores if row.signals), ""):
        raise DataError(
            f"`pair.min_probability` goes by the noise of the scores, which isn't known for those by {made_of}: leave "
            "it out."
        )
    students = list(weights) or list(dict.fromkeys(row.student for row in scores))
    total = sum(weights.get(student, 1.0) for student in students)
    of_drafts: dict[str, Belief] = dict.fromkeys(ids, Belief(0.0, 0.0))
    of_questions: dict[str, Belief] = dict.fromkeys((draft.question_id for draft in drafts), Belief(0.0, 0.0))
    for student in students:
        share = weights.get(student, 1.0) / total
        known = {row.draft_id: row for row in scores if row.student == student and row.draft_id in ids}
        one = _of_student(drafts, known, {draft: cells.get((student, draft), {}) for draft in ids})
        for mine, theirs in ((of_drafts, one.drafts), (of_questions, one.questions)):
            for key, belief in theirs.items():
                mine[key] = Belief(
                    mine[key].mean + share * belief.mean, mine[key].variance + share**2 * belief.variance
                )
    return Shrunken(of_drafts, of_questions)


def _of_student(
    drafts: Sequence[Draft], scores: Mapping[str, Score], cells: Mapping[str, Mapping[str, float]]
) -> Shrunken:
    groups: dict[str, list[str]] = {}
    for draft in drafts:
        groups.setdefault(draft.question_id, []).append(draft.draft_id)
    score = {key: scores[key].score for group in groups.values() for key in group}
    noise = _noise_share(groups, cells)
    # As many independent answers would have so much noise.
    n = {key: scores[key].n / noise for key in score}
    asked = len(score) / sum(1 / value for value in n.values())
    s_q = question_scores(drafts, score)
    # At least what one answer more or less comes to: a task that is all right or all wrong is not known for sure.
    spread = {key: max(mean * (1 - mean), 1 / (4 * asked)) for key, mean in s_q.items()}

    # How far questions differ, beyond the noise of their means.
    middle = fmean(s_q.values())
    apart = {key: spread[key] * noise / len(group) for key, group in groups.items()}
    shared = _shared_noise(groups, cells, apart)
    error = {key: shared * spread[key] / sum(n[draft] for draft in group) for key, group in groups.items()}
    of_questions = max(variance(s_q.values()) - fmean(error.values()), 0.0) if len(s_q) > 1 else 0.0
    questions = {}
    for key, mean in s_q.items():
        kept = of_questions / (of_questions + error[key])
        questions[key] = Belief(middle + kept * (mean - middle), kept * error[key])

    # Prior answers of a rationale, from how far those of a question differ: (1 + prior / n) / (1 + prior) of p (1 - p).
    several = [key for key, group in groups.items() if len(group) > 1]
    within = sum(variance([score[draft] for draft in groups[key]]) for key in several)
    ratio = within / sum(spread[key] for key in several) if several else 0.0
    prior = (1 - min(ratio, 0.99)) / (ratio - 1 / asked) if ratio > 1 / asked else _NONE_DIFFERS
    prior = min(prior, _NONE_DIFFERS)
    beliefs = {}
    for question, group in groups.items():
        usual = min(max(questions[question].mean, 0.0), 1.0)
        for key in group:
            answers = prior + n[key]
            mean = (prior * usual + n[key] * score[key]) / answers
            beliefs[key] = Belief(mean, mean * (1 - mean) / (answers + 1))
    return Shrunken(beliefs, questions)


def _noise_share(groups: Mapping[str, Sequence[str]], cells: Mapping[str, Mapping[str, float]]) -> float:
    """The noise between two rationales of a question, as a share of that of binomial scores; at most 1.

    Both were asked the same preference questions, so what these differ in is no noise.
    """
    found = expected = 0.0
    for group in groups.values():
        for i, first in enumerate(group):
            for second in group[i + 1 :]:
                both = sorted(cells[first].keys() & cells[second].keys())
                if len(both) < 2:
                    continue
                one, other = (np.array([cells[draft][key] for key in both]) for draft in (first, second))
                found += float((one - other).var(ddof=1))
                expected += float(one.mean() * (1 - one.mean()) + other.mean() * (1 - other.mean()))
    return min(max(found / expected, 1e-3), 1.0) if expected else 1.0


def _shared_noise(
    groups: Mapping[str, Sequence[str]], cells: Mapping[str, Mapping[str, float]], apart: Mapping[str, float]
) -> float:
    """The noise of a question on one preference question, as a multiple of what it is if its rationales err `apart`.

    The rationales of a question do alike on a preference question, so that their mean is known less well than that of
    as many independent answers. What all questions find easy or hard is no noise. 1 where there is too little to tell.
    """
    of_drafts = [cells[draft] for group in groups.values() for draft in group]
    asked = sorted(set.intersection(*(set(row) for row in of_drafts)))
    if len(groups) < 2 or len(asked) < 2:
        return 1.0
    means = np.array([[fmean(cells[draft][key] for draft in group) for key in asked] for group in groups.values()])
    found = (means - means.mean(axis=0)).var(axis=1, ddof=1).sum() * len(groups) / (len(groups) - 1)
    expected = sum(apart.values())
    return float(found) / expected if found > 0 and expected > 0 else 1.0
