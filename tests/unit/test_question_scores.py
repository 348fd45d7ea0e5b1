"""s_q where every rationale is there, and where some were lost."""

import random
from statistics import fmean

import pytest

from arte_plugin.stages.question_scores import incomplete, question_scores
from tests.unit.test_pair import draft

TECHNIQUES = {"good": 0.2, "plain": 0.0, "bad": -0.2}


def made(liking, lost=()):
    """Drafts and s_r = question + technique, without the `lost` ones."""
    drafts = [draft(q, t) for q in liking for t in TECHNIQUES if (q, t) not in lost]
    return drafts, {one.draft_id: liking[one.question_id] + TECHNIQUES[one.technique] for one in drafts}


def test_with_all_rationales_it_is_their_mean_to_the_digit():
    rng = random.Random(1)
    drafts, _ = made(dict.fromkeys(("q1", "q2", "q3"), 0.5))
    scored = {one.draft_id: rng.random() for one in drafts}
    assert incomplete(drafts) == 0
    for question, score in question_scores(drafts, scored).items():
        assert score == fmean(scored[one.draft_id] for one in drafts if one.question_id == question)


def test_a_question_is_not_worse_for_the_good_rationale_that_it_lost():
    # q1 is liked best, lost its good rationale, and would come last by the mean of what is left.
    liking = {"q1": 0.55, "q2": 0.5, "q3": 0.45, "q4": 0.5}
    drafts, scored = made(liking, lost=[("q1", "good"), ("q1", "plain"), ("q3", "bad")])
    assert incomplete(drafts) == 2
    s_q = question_scores(drafts, scored)
    assert s_q == {question: pytest.approx(value, abs=1e-6) for question, value in liking.items()}


def test_a_technique_that_only_bad_questions_lack_does_not_look_good_for_it():
    # The technique's mean over its questions is that of good questions, which is no merit of the technique.
    liking = {f"q{i}": 0.6 for i in range(5)} | {f"q{i}": 0.3 for i in range(5, 10)}
    drafts, scored = made(liking, lost=[(f"q{i}", "bad") for i in range(5, 10)])
    assert question_scores(drafts, scored) == {q: pytest.approx(v, abs=1e-6) for q, v in liking.items()}
