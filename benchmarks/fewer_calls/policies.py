"""Ways of spending fewer probes, to compare `probe.budget: racing` with. Each yields scores by draft and calls made."""

import math
import random
from collections.abc import Callable, Mapping, Sequence

from arte_plugin.config.probe import RacingArgs
from arte_plugin.stages.racing import Standing, race
from matrix import Matrix

Scores = tuple[dict[str, float], int]
#: Drafts that go on, in the order in which the calls go to them.
Choice = Callable[[Mapping[str, Standing], Mapping[str, str]], Sequence[str]]

QUANTILE = 0.25


def racing(matrix: Matrix, seed: int, **settings: float) -> Scores:
    """The plugin's own."""
    standings = race(
        matrix.question_of,
        matrix.preference_ids,
        RacingArgs(**settings),
        QUANTILE,
        f"{seed}",
        lambda cells: [matrix.right(*cell) for cell in cells],
    )
    return _scores(standings)


def uniform(matrix: Matrix, seed: int, share: float) -> Scores:
    """Every draft on the same first questions of a random order: the control."""
    order = _shuffled(matrix, seed)[: max(1, round(share * len(matrix.preference_ids)))]
    standings = {
        draft: Standing(
            len(order), sum(matrix.right(draft, question) for question in order), len(matrix.preference_ids)
        )
        for draft in matrix.question_of
    }
    return _scores(standings)


def discriminating(matrix: Matrix, seed: int, share: float) -> Scores:
    """Every draft on the most discriminating questions by item response theory; equals in random order."""
    shuffled = _shuffled(matrix, seed)
    order = sorted(shuffled, key=lambda question: -round(matrix.discrimination[question], 4))
    order = order[: max(1, round(share * len(order)))]
    standings = {
        draft: Standing(len(order), sum(matrix.right(draft, question) for question in order), len(shuffled))
        for draft in matrix.question_of
    }
    return _scores(standings)


def halving(matrix: Matrix, seed: int, share: float) -> Scores:
    """Within each question the best and the worst so far go on, and the others when those are through."""

    def choose(standings: Mapping[str, Standing], question_of: Mapping[str, str]) -> list[str]:
        groups: dict[str, list[str]] = {}
        for draft in sorted(standings, key=lambda draft: (-standings[draft].score, draft)):
            groups.setdefault(question_of[draft], []).append(draft)
        ends = {draft for group in groups.values() for draft in (group[0], group[-1])}
        return sorted(standings, key=lambda draft: (draft not in ends, standings[draft].asked, draft))

    return _in_rounds(matrix, seed, share, choose)


def quartiles(matrix: Matrix, seed: int, share: float) -> Scores:
    """By place: the drafts of questions that are nearest to the edge of a quartile, and nearest to the ends of their
    question, in standard deviations; whether the sign of a pair hangs on it or not."""

    def choose(standings: Mapping[str, Standing], question_of: Mapping[str, str]) -> list[str]:
        groups: dict[str, list[str]] = {}
        for draft in standings:
            groups.setdefault(question_of[draft], []).append(draft)
        s_q = {key: sum(standings[draft].score for draft in group) / len(group) for key, group in groups.items()}
        ranked = sorted(s_q, key=lambda key: (-s_q[key], key))
        size = max(1, int(len(ranked) * QUANTILE))
        edges = [(s_q[ranked[i - 1]] + s_q[ranked[i]]) / 2 for i in (size, len(ranked) - size)]
        sure: dict[str, float] = {}
        for key, group in groups.items():
            variance = sum(standings[draft].variance for draft in group) / len(group) ** 2
            place = min(abs(s_q[key] - edge) for edge in edges) / math.sqrt(variance) if variance else math.inf
            by_score = sorted(group, key=lambda draft: (-standings[draft].score, draft))
            for rank, draft in enumerate(by_score):
                rivals = [by_score[0], by_score[-1]]
                if rank == 0:
                    rivals = [by_score[1], by_score[-1]]
                elif rank == len(by_score) - 1:
                    rivals = [by_score[0], by_score[-2]]
                sure[draft] = min(place, *(_apart(standings[draft], standings[rival]) for rival in rivals))
        return sorted(standings, key=lambda draft: (sure[draft], standings[draft].asked, draft))

    return _in_rounds(matrix, seed, share, choose)


def _apart(one: Standing, other: Standing) -> float:
    variance = one.variance + other.variance
    return abs(one.score - other.score) / math.sqrt(variance) if variance else math.inf


def _in_rounds(matrix: Matrix, seed: int, share: float, choose: Choice) -> Scores:
    """Rounds like those of racing, with its default settings, for another choice of drafts."""
    settings, order = RacingArgs(), _shuffled(matrix, seed)
    n = len(order)

    def standing(draft: str, asked: int) -> Standing:
        return Standing(asked, sum(matrix.right(draft, question) for question in order[:asked]), n)

    standings = {draft: standing(draft, min(settings.first, n)) for draft in matrix.question_of}
    left = int(share * len(standings) * n) - sum(known.asked for known in standings.values())
    while left > 0:
        open_ones = [draft for draft in choose(standings, matrix.question_of) if standings[draft].asked < n]
        for draft in open_ones[: math.ceil(0.1 * len(standings))]:
            more = min(settings.step, n - standings[draft].asked, left)
            standings[draft] = standing(draft, standings[draft].asked + more)
            left -= more
        if not open_ones:
            break
    return _scores(standings)


def _shuffled(matrix: Matrix, seed: int) -> list[str]:
    order = sorted(matrix.preference_ids)
    random.Random(f"{seed}").shuffle(order)
    return order


def _scores(standings: Mapping[str, Standing]) -> Scores:
    return {draft: known.score for draft, known in standings.items()}, sum(known.asked for known in standings.values())
