"""Would other respondents have chosen the same set? Coins, a true 2PL, and too few respondents."""

import numpy as np
import pytest

from arte_plugin.stages import stability
from arte_plugin.stages.choosing import _choose

QUESTIONS, SIZE = 40, 16


@pytest.fixture(autouse=True)
def _fewer_permutations(monkeypatch):
    monkeypatch.setattr(stability, "PERMUTATIONS", 19)


def told(correct, seed=1):
    chosen = _choose(correct, SIZE, np.arange(correct.shape[1]))
    return stability.stability(correct, chosen, _choose, seed)


def test_coins_agree_as_far_as_chance_goes():
    rng = np.random.default_rng(0)
    found = [told(rng.random((20, QUESTIONS)) < 0.4) for _ in range(4)]
    assert np.mean([one["overlap"] for one in found]) == pytest.approx(SIZE / QUESTIONS, abs=0.08)
    assert np.mean([one["chance"] for one in found]) == pytest.approx(SIZE / QUESTIONS, abs=0.05)
    assert np.mean([one["p"] for one in found]) > 0.15


def test_difficulty_alone_is_no_agreement():
    # Half of the questions are beyond everybody, so any respondents choose among the others.
    rng = np.random.default_rng(0)
    chances = np.repeat([0.0, 0.4], QUESTIONS // 2)
    found = told(rng.random((20, QUESTIONS)) < chances)
    assert found["overlap"] > 0.65 and found["overlap"] == pytest.approx(found["chance"], abs=0.1)
    assert found["p"] > 0.05 and found["flat"] == 0


def test_questions_that_do_differ_are_found_by_both_halves():
    rng = np.random.default_rng(0)
    alpha = np.where(np.arange(QUESTIONS) < SIZE, 4.0, 0.1)
    ability = rng.normal(0, 1, 20)
    difficulty = rng.normal(0, 0.5, QUESTIONS)
    chances = 1 / (1 + np.exp(-alpha * (ability[:, None] - difficulty)))
    found = told(rng.random(chances.shape) < chances)
    assert found["overlap"] > found["chance"] + 0.2 and found["p"] == 0.05


def test_few_respondents_tell_nothing_and_flat_questions_are_counted():
    correct = np.zeros((4, QUESTIONS), dtype=bool)
    correct[:2, :10] = True
    found = told(correct)
    assert (found["overlap"], found["chance"], found["p"]) == (None, None, None)
    assert (found["flat"], found["respondents"]) == (6, 4)


def test_the_same_answers_tell_the_same():
    correct = np.random.default_rng(3).random((8, QUESTIONS)) < 0.5
    assert told(correct) == told(correct)
