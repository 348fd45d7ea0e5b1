"""Stage 3 with fewer calls (`probe.budget: racing`): probes go where the preference pairs are not settled yet.

Not in the paper, which probes every draft on every question of the preference set. Only some of the drafts get into a
pair, and of most pairs it is clear early which side is the better one. `docs/fewer-calls.md` has the rule in words and
what it saves.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from arte_plugin.config.probe import RacingArgs

#: Share of the drafts that are probed further in a round: small, so that what a round shows can steer the next one.
ROUND = 0.1

#: A draft and a preference question, by id.
Cell = tuple[str, str]


@dataclass(frozen=True)
class Standing:
    """What is known of one draft: so many of the `of` preference questions were asked, so many answered right."""

    asked: int
    correct: int
    of: int

    @property
    def score(self) -> float:
        """s_r on what was asked."""
        return self.correct / self.asked

    @property
    def variance(self) -> float:
        """Of s_r on the whole set, as expected from what was asked; 0 once all of it was.

        What is left is beta-binomial: Laplace's estimate of the share, with the uncertainty of that estimate.
        """
        left = self.of - self.asked
        share = (self.correct + 1) / (self.asked + 2)
        return left * share * (1 - share) * (self.of + 2) / (self.asked + 3) / self.of**2


def race(
    question_of: Mapping[str, str],
    preference_ids: Sequence[str],
    settings: RacingArgs,
    quantile: float,
    seed: str,
    ask: Callable[[Sequence[Cell]], Sequence[bool]],
) -> dict[str, Standing]:
    """Probe the drafts of one task and student in rounds, and say what became of each.

    `question_of` has every draft's question by draft id, `quantile` is pairing's, and `ask` tells which cells were
    answered right. All drafts go through the preference questions in one order, so that two of them are compared on
    the same questions as far as both got. What is asked depends on the arguments and on the answers, on nothing else.
    """
    order = sorted(preference_ids)
    random.Random(seed).shuffle(order)
    budget = max(int(settings.share * len(question_of) * len(order)), 1)
    enough = NormalDist().inv_cdf(settings.confidence) if settings.confidence < 1 else math.inf
    standings = {draft: Standing(0, 0, len(order)) for draft in question_of}

    def probe_on(drafts: Sequence[str], questions: int) -> int:
        cells = [
            (draft, question)
            for draft in drafts
            for question in order[standings[draft].asked : standings[draft].asked + questions]
        ]
        for (draft, _), right in zip(cells, ask(cells), strict=True):
            known = standings[draft]
            standings[draft] = Standing(known.asked + 1, known.correct + right, known.of)
        return len(cells)

    # Every draft needs a score, so this first batch is made whatever the share allows.
    left = budget - probe_on(list(question_of), settings.first)
    while left > 0:
        sureness = settled(standings, question_of, quantile)
        unsettled = [
            draft for draft, sure in sureness.items() if sure <= enough and standings[draft].asked < len(order)
        ]
        # The least settled first; among equals those that were asked least.
        unsettled.sort(key=lambda draft: (sureness[draft], standings[draft].asked, draft))
        affordable = max(1, left // settings.step)
        chosen = unsettled[: min(affordable, math.ceil(ROUND * len(question_of)))]
        if not chosen:
            break
        left -= probe_on(chosen, min(settings.step, left))
    return standings


def settled(standings: Mapping[str, Standing], question_of: Mapping[str, str], quantile: float) -> dict[str, float]:
    """How surely each draft's part in the pairs is settled, in standard deviations; inf where nothing is left to ask.

    The lesser of two: in its question's rationale-level pair, and, through s_q, in the question-level pairs.
    """
    questions: dict[str, list[str]] = {}
    for draft in standings:
        questions.setdefault(question_of[draft], []).append(draft)
    sure = dict.fromkeys(standings, math.inf)
    for drafts in questions.values():
        if len(drafts) > 1:
            sure |= _in_rationale_pair(drafts, standings)
    for question, value in _in_question_pairs(questions, standings, quantile).items():
        for draft in questions[question]:
            sure[draft] = min(sure[draft], value)
    return sure


def _in_rationale_pair(drafts: Sequence[str], standings: Mapping[str, Standing]) -> dict[str, float]:
    """A question's best and worst are as settled as the sign of their pair; so is any other, unless it is surely
    neither the best nor the worst, which settles it too."""
    ranked = sorted(drafts, key=lambda draft: (-standings[draft].score, draft))
    best, worst = standings[ranked[0]], standings[ranked[-1]]
    pair = _apart(best, worst)
    return {draft: max(pair, min(_apart(best, standings[draft]), _apart(standings[draft], worst))) for draft in drafts}


def _in_question_pairs(
    questions: Mapping[str, Sequence[str]], standings: Mapping[str, Standing], quantile: float
) -> dict[str, float]:
    """A question of the best or the worst share is as settled as it is on its side of the middle between the shares.

    One between them does harm only if it belongs to one share and stands beyond the middle: it is as settled as it is
    not to come from its place to the nearer edge, and from there to the middle.
    """
    s_q = {key: sum(standings[draft].score for draft in drafts) / len(drafts) for key, drafts in questions.items()}
    ranked = sorted(s_q, key=lambda key: (-s_q[key], key))
    share = max(1, int(len(ranked) * quantile)) if len(ranked) > 1 else 0
    if not share:
        return {}
    upper, lower = s_q[ranked[share - 1]], s_q[ranked[-share]]
    middle, half = (upper + lower) / 2, (upper - lower) / 2
    found = {}
    for place, key in enumerate(ranked):
        between = share <= place < len(ranked) - share
        off = abs(s_q[key] - middle)
        variance = sum(standings[draft].variance for draft in questions[key]) / len(questions[key]) ** 2
        found[key] = _in_deviations(2 * half - off if between else off, variance)
    return found


def _apart(higher: Standing, lower: Standing) -> float:
    return _in_deviations(higher.score - lower.score, higher.variance + lower.variance)


def _in_deviations(gap: float, variance: float) -> float:
    if variance == 0:
        # Both are known, so there is nothing left to ask.
        return math.inf
    return gap / math.sqrt(variance)
