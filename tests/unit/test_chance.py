"""Gaps against what chance makes of them: made-up matrices with and without a difference, and the committed one."""

import sys
from pathlib import Path

import numpy as np
import pytest

from arte_plugin.stages import chance

T = 4


def groups_of(questions, drafts=T):
    return [list(range(drafts * i, drafts * (i + 1))) for i in range(questions)]


def drawn(rng, questions=12, asked=20, of_question=0.0, of_draft=0.0):
    """Outcomes whose chances differ between preference questions, and by these SDs between questions and drafts."""
    ease = rng.normal(0, 1, asked)
    quality = rng.normal(0, of_question, questions).repeat(T) + rng.normal(0, of_draft, questions * T)
    return (rng.random((questions * T, asked)) < 1 / (1 + np.exp(-(quality[:, None] + ease)))).astype(float)


def test_permutations_are_those_of_a_loop_that_shuffles():
    rng = np.random.default_rng(0)
    values, groups = drawn(rng), [[0, 1, 2, 3], [4, 5, 6], [7, 8], [9]]

    def gap(of):
        return np.mean([np.ptp(of[rows].mean(axis=1)) for rows in groups if len(rows) > 1])

    shuffled = []
    for _ in range(3000):
        mixed = values.copy()
        for rows in groups:
            mixed[rows] = rng.permuted(mixed[rows], axis=0)
        shuffled.append(gap(mixed))
    found = chance.rationale_gap(values, groups, rng)
    assert found.gap == pytest.approx(gap(values))
    assert found.chance == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) * (1 / 3000 + 1 / 999) ** 0.5)
    assert found.p == pytest.approx(np.mean(np.array(shuffled) >= gap(values) - 1e-9), abs=0.08)


def test_many_rationales_are_exchanged_too():
    rng = np.random.default_rng(0)
    values = (rng.random((5 * 7, 20)) < 0.4).astype(float)
    found = chance.rationale_gap(values, groups_of(5, 7), rng)
    assert found.chance == pytest.approx(found.gap, abs=0.1) and found.p > 0.001


def false_alarms(test, times=200, **differences):
    rng = np.random.default_rng(1)
    return np.mean([test(drawn(rng, **differences), rng).p < 0.05 for _ in range(times)])


def of_rationales(values, rng):
    return chance.rationale_gap(values, groups_of(12), rng)


def of_questions(values, rng):
    return chance.question_gap(values, groups_of(len(values) // T), 0.25, rng)


def test_rationales_that_do_not_differ_seldom_look_as_if_they_did():
    assert false_alarms(of_rationales, of_question=1.0) < 0.09
    assert false_alarms(of_rationales, of_draft=0.7, times=30) > 0.9


def siblings_agree(rng, questions=20, asked=40, agreement=0.25):
    """Questions that are all equally good, though a question's rationales do alike on a preference question."""
    ease = rng.normal(0, 1, asked)
    shared = rng.normal(0, agreement**0.5, (questions, asked)).repeat(T, axis=0)
    own = rng.normal(0, (1 - agreement) ** 0.5, shared.shape)
    return (shared + own < ease).astype(float)


def test_equal_questions_whose_rationales_agree_seldom_look_as_if_they_differed():
    rng = np.random.default_rng(1)
    agreeing = np.mean([of_questions(siblings_agree(rng), rng).p <= 0.05 for _ in range(200)])
    assert agreeing < 0.1
    assert false_alarms(of_questions) < 0.09


def test_questions_that_differ_are_found_also_where_their_rationales_agree():
    assert false_alarms(of_questions, of_draft=0.3, of_question=1.0, times=30) > 0.9
    rng = np.random.default_rng(1)
    better = np.linspace(-0.2, 0.2, 20).repeat(T)[:, None]
    found = []
    for _ in range(30):
        values = siblings_agree(rng)
        lifted = np.where(rng.random(values.shape) < abs(better), better > 0, values)
        found.append(of_questions(lifted.astype(float), rng).p <= 0.05)
    assert np.mean(found) > 0.9


def test_of_unequally_many_rationales_a_question_has_the_mean():
    values = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert chance.question_gap(values, [[0, 1], [2]], 0.25, np.random.default_rng(0)).gap == pytest.approx(0.75)


def test_what_is_chosen_by_noise_is_nothing_on_the_other_half():
    rng = np.random.default_rng(2)
    found = chance.rationales_cross_fitted(drawn(rng, questions=300, asked=40), groups_of(300), rng)
    assert found.chosen_half > 0.15 and abs(found.other_half) < 0.01 and abs(found.reversed - 0.5) < 0.02


def test_a_true_difference_is_found_again_on_the_other_half():
    rng = np.random.default_rng(3)
    chances = np.tile([0.1, 0.5, 0.5, 0.9], 200)
    values = (rng.random((800, 40)) < chances[:, None]).astype(float)
    found = chance.rationales_cross_fitted(values, groups_of(200), rng)
    assert found.other_half == pytest.approx(0.8, abs=0.02)
    assert found.reversed < 0.001


def test_nothing_told_apart_is_no_choice():
    rng = np.random.default_rng(3)
    assert chance.rationales_cross_fitted(np.ones((8, 6)), groups_of(2), rng) is None
    assert chance.rationale_gap(np.ones((8, 6)), groups_of(2), rng) == chance.Tested(0.0, 0.0, 1.0)


def test_the_committed_matrix_holds_more_than_chance(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks/fewer_calls"), *sys.path])
    from matrix import load

    for task, gap, by_chance in zip(load(), (0.309, 0.341), (0.152, 0.135), strict=True):
        drafts = list(task.question_of)
        values = np.array([[float(task.right(d, q)) for q in task.preference_ids] for d in drafts])
        groups = [[i for i, d in enumerate(drafts) if task.question_of[d] == q] for q in set(task.question_of.values())]
        rng = np.random.default_rng(4)
        found = chance.rationale_gap(values, groups, rng)
        assert (found.gap, found.chance) == (pytest.approx(gap, abs=5e-4), pytest.approx(by_chance, abs=5e-3))
        assert found.p == 0.001
        halves = chance.rationales_cross_fitted(values, groups, rng)
        assert 0.6 < halves.other_half / halves.chosen_half < 0.85 and halves.reversed < 0.15
        # What a question's rationales share on one preference question is no difference of the questions, and the
        # questions differ by more than that.
        assert chance.question_gap(values, groups, 0.25, rng).p == 0.001
