"""Which preference pairs the teacher is not trained on, so that there are some that it has never seen.

The split is by question. A rationale-level pair has one question, a question-level pair has two; pairs that have a
question in common, directly or through others, form a group, and a group is held out or trained on as a whole. So no
question is on both sides and no pair is lost. (What stands in front of a question, `begun`, may show others: it is part
of the prompt, and not trained on.) Groups are drawn at random, over all tasks; one that would be too much is passed
over.
"""

import random
from collections.abc import Mapping, Sequence

from arte_plugin.rows import PreferencePair

#: Fewer held-out pairs tell nothing: even if all of 4 come out right, that is hardly more than chance makes of them.
FEWEST = 5


def hold_out(
    pairs: Sequence[PreferencePair], question_of: Mapping[str, str], share: float, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair], str]:
    """The pairs to train on, those held out, and in words why there are none of these where `share` asks for some.

    `question_of` has the question's id by draft id; a question-level pair names its two questions itself.
    """
    if share == 0:
        return list(pairs), [], ""
    wanted = int(share * len(pairs) + 1e-9)
    if wanted < FEWEST:
        return list(pairs), [], f"none held out for the check: {share:g} of {len(pairs)} is fewer than {FEWEST}"
    groups = _groups(pairs, question_of)
    random.Random(f"{seed}/held out").shuffle(groups)
    chosen: set[int] = set()
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    if len(chosen) < FEWEST:
        return (
            list(pairs),
            [],
            f"none held out for the check: the {len(pairs)} pairs have too many questions in common",
        )
    trained = [one for place, one in enumerate(pairs) if place not in chosen]
    return trained, [one for place, one in enumerate(pairs) if place in chosen], ""


def questions_in(pair: PreferencePair, question_of: Mapping[str, str]) -> set[tuple[str, str]]:
    """Task and id of the one or two questions that a pair is made of."""
    return {(pair.task, question_of.get(name, name)) for name in (pair.chosen_id, pair.rejected_id)}


def _groups(pairs: Sequence[PreferencePair], question_of: Mapping[str, str]) -> list[list[int]]:
    """Places of pairs that hang together by their questions, in the order of the first of each."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(question: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(question, question)
        while parent[question] != question:
            parent[question] = parent[parent[question]]
            question = parent[question]
        return question

    for pair in pairs:
        first, *rest = sorted(questions_in(pair, question_of))
        for other in rest:
            parent[root(other)] = root(first)
    groups: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(pairs):
        groups.setdefault(root(min(questions_in(pair, question_of))), []).append(place)
    return list(groups.values())
