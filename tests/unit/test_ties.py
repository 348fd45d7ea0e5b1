"""Equal scores: no technique gains from its name. No model."""

from collections import Counter

import numpy as np
import pytest

from arte_plugin.config.pair import PairArgs
from arte_plugin.stages.arms import drafted_examples
from arte_plugin.stages.pairing import pair
from arte_plugin.stages.ties import ranked
from tests.unit.test_pair import draft, everything_fits

TECHNIQUES = ("rule_first", "solve_then_check", "split", "step_by_step")


def alike(k, accuracy, questions):
    """Drafts whose techniques do not differ, and their scores on `k` preference questions."""
    rng = np.random.default_rng(1)
    drafts = [draft(f"q{i:04d}", technique) for i in range(questions) for technique in TECHNIQUES]
    return drafts, {one.draft_id: rng.binomial(k, accuracy) / k for one in drafts}


@pytest.mark.parametrize(("k", "accuracy"), [(40, 0.35), (6, 0.43)])
def test_every_technique_is_chosen_and_rejected_alike(k, accuracy):
    drafts, scores = alike(k, accuracy, 4000)
    pairs, _ = pair(drafts, scores, PairArgs(question_pairs=0, rationale_pairs=10**6), 1, everything_fits)
    for side in ("chosen_id", "rejected_id"):
        counts = Counter(getattr(one, side).partition("-")[2] for one in pairs)
        assert [counts[name] / len(pairs) for name in TECHNIQUES] == pytest.approx([0.25] * 4, abs=0.02)


def test_the_arm_of_the_best_rationales_takes_every_technique_alike_and_what_pairing_chose():
    drafts, scores = alike(6, 0.43, 4000)
    examples, _ = drafted_examples(drafts, scores, "best", 4000, 1)
    counts = Counter(row.rationale.split()[1].rstrip(":") for row in examples)
    assert [counts[name] / 4000 for name in TECHNIQUES] == pytest.approx([0.25] * 4, abs=0.02)
    pairs, _ = pair(drafts, scores, PairArgs(question_pairs=0, rationale_pairs=10**6), 1, everything_fits)
    taken = {row.prompt: row.rationale for row in examples}
    assert all(taken[one.prompt] == one.chosen for one in pairs)


def test_equal_techniques_are_told_apart_by_chance():
    drafts, _ = alike(6, 0.43, 1)
    same = dict.fromkeys((one.draft_id for one in drafts), 0.5)
    best = [drafted_examples(drafts, same, "best_technique", 1, seed)[0][0].rationale for seed in range(400)]
    assert sorted(Counter(best).values()) == pytest.approx([100] * 4, abs=30)


def test_questions_at_the_edge_of_a_quarter_are_drawn_by_chance():
    # Two of eight questions are in the best share, and all but one of the others tie for the second place.
    ids = [f"q{i}" for i in range(8)]
    drafts = [draft(one, name) for one in ids for name in TECHNIQUES[:2]]
    score = {"q0": 0.9, "q7": 0.1}
    scores = {one.draft_id: score.get(one.question_id, 0.5) for one in drafts}
    second = Counter()
    for seed in range(300):
        pairs, _ = pair(drafts, scores, PairArgs(rationale_pairs=0), seed, everything_fits)
        second.update({one.chosen_id for one in pairs} - {"q0"})
    assert set(second) == set(ids[1:7]) and max(second.values()) < 100


def test_the_order_does_not_depend_on_the_order_of_the_keys_and_best_and_worst_differ():
    scores = {"a": 0.5, "b": 0.5 + 1e-15, "c": 0.5, "d": 0.2}
    turned = dict(reversed(list(scores.items())))
    assert all(ranked(scores, f"{seed}") == ranked(turned, f"{seed}") for seed in range(20))
    assert {ranked(scores, f"{seed}")[0] for seed in range(50)} == {"a", "b", "c"}
    assert {ranked(scores, f"{seed}")[-1] for seed in range(50)} == {"d"}
