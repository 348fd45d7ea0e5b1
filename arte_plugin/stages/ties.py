"""Equal scores, settled by seeded chance.

Scores of k questions have k + 1 values, so ties are common. Whatever settles them by a name points the same way in
every question and task, and DPO adds it up: the teacher would be taught which technique comes first in the alphabet.
"""

import random
from collections.abc import Mapping

#: Scores are sums of equal shares: differences below this are rounding.
DIGITS = 9


def ranked(scores: Mapping[str, float], seed: str) -> list[str]:
    """The keys of `scores`, the highest first; equal ones in an order that `seed` and the set of keys decide.

    Best and worst of one call are two keys wherever there are two, for they come from one shuffle.
    """
    order = sorted(scores)
    random.Random(seed).shuffle(order)
    return sorted(order, key=lambda key: -round(scores[key], DIGITS))


def of_question(seed: int, task: str, question_id: str) -> str:
    """The seed of a question's rationales: pairs, arms and the consistency check settle them alike."""
    return f"{seed}/{task}/{question_id}/ties"
