"""Intervals and p of arms over seeds and tasks, on made-up students whose true difference is known."""

import numpy as np
import pytest

from arte_plugin.stages.differences import difference


def arm(rng, questions, seeds, spread, better=0.0):
    """Fine-tunings × questions of each task; `questions` are chances of a right answer, `spread` the SD of seeds."""
    luck = rng.normal(0, spread, seeds)
    return [(rng.random((seeds, len(q))) < np.clip(q + better + luck[:, None], 0, 1)).astype(float) for q in questions]


def false_alarms(seeds, spread, sizes=(500,), times=300):
    """How often two arms that do not differ are taken for different ones."""
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(times):
        questions = [rng.beta(2, 2, size) for size in sizes]
        first, second = (arm(rng, questions, n, sd) for n, sd in zip(seeds, spread, strict=True))
        alarms.append(difference(first, second).p < 0.05)
    return np.mean(alarms)


@pytest.mark.parametrize("sizes", [(500,), (3000,), (60,), (1300, 140, 140)])
def test_three_seeds_that_differ_do_not_make_arms_differ(sizes):
    # 33 % of experiments where seeds are taken for known, at 500 questions.
    assert false_alarms((3, 3), (0.03, 0.03), sizes) < 0.09


def test_the_untouched_student_has_no_seeds():
    assert 0.01 < false_alarms((1, 3), (0.0, 0.03)) < 0.11


def test_without_a_spread_of_seeds_questions_decide():
    assert false_alarms((3, 3), (0.0, 0.0)) < 0.07
    rng = np.random.default_rng(2)
    questions = [rng.beta(2, 2, 500)]
    found = [difference(arm(rng, questions, 3, 0.0), arm(rng, questions, 3, 0.0, 0.06)).p < 0.05 for _ in range(100)]
    assert np.mean(found) > 0.5


def test_intervals_hold_the_true_difference():
    rng = np.random.default_rng(3)
    held = []
    for _ in range(300):
        questions = [rng.uniform(0.3, 0.6, size) for size in (200, 50)]
        found = difference(arm(rng, questions, 3, 0.03), arm(rng, questions, 3, 0.03, 0.1))
        held.append(found.low <= 0.1 <= found.high)
    assert 0.92 < np.mean(held) <= 1.0


def test_every_task_counts_the_same():
    first = [np.zeros((1, 1000)), np.zeros((1, 10))]
    second = [np.zeros((1, 1000)), np.ones((1, 10))]
    assert difference(first, second).difference == 0.5


def test_differences_that_are_all_the_same_are_not_known_for_sure():
    found = difference([np.zeros((3, 20))], [np.ones((3, 20))])
    assert 0.5 < found.low < 1.0 == found.high and 0 < found.p < 0.001
    nothing = difference([np.ones((3, 20))], [np.ones((3, 20))])
    assert nothing.difference == 0 and nothing.low < 0 < nothing.high and nothing.p == 1.0
