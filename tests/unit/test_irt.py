import json
from pathlib import Path

import girth
import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit
from scipy.stats import spearmanr

from arte_plugin.errors import DataError
from arte_plugin.stages import irt

#: Made by tests/data/make_responses.py: 16 respondents from two real models, 40 of our own questions a task.
RESPONSES = Path(__file__).parents[1] / "data/responses.json"


def simulate(respondents, items, seed):
    rng = np.random.default_rng(seed)
    alpha, beta, theta = rng.lognormal(0, 0.5, items), rng.normal(0, 1, items), rng.normal(0, 1, respondents)
    return alpha, rng.random((respondents, items)) < expit(alpha * (theta[:, None] - beta))


def overlap(respondents, seed, top=40):
    alpha, correct = simulate(respondents, 100, seed)
    estimated = irt.fit(correct).discrimination
    return len(set(np.argsort(-alpha)[:top]) & set(np.argsort(-estimated)[:top])) / top


def test_gradient():
    _, correct = simulate(7, 5, 0)
    point = np.random.default_rng(1).normal(size=2 * 5 + 7)

    def value(x):
        return irt.negative_log_posterior(x, correct.astype(float))[0]

    def gradient(x):
        return irt.negative_log_posterior(x, correct.astype(float))[1]

    assert check_grad(value, gradient, point) < 1e-4


def test_many_respondents_find_the_discriminating_items():
    # Chance is 0.4.
    assert np.mean([overlap(200, seed) for seed in range(3)]) > 0.75


def test_twenty_respondents_do_better_than_chance():
    assert np.mean([overlap(20, seed) for seed in range(8)]) > 0.5


def test_items_that_everybody_or_nobody_gets_right_stay_near_the_prior():
    _, correct = simulate(20, 30, 3)
    correct[:, 0], correct[:, 1] = True, False
    fitted = irt.fit(correct)
    assert np.all(np.isfinite(fitted.discrimination)) and fitted.converged
    assert max(fitted.discrimination[:2]) < 2.0


def test_the_same_answers_give_the_same_fit():
    _, correct = simulate(20, 30, 3)
    assert np.array_equal(irt.fit(correct).discrimination, irt.fit(correct).discrimination)


def test_a_published_package_finds_the_same_parameters():
    _, correct = simulate(400, 40, 1)
    ours, theirs = irt.fit(correct), girth.twopl_mml(correct.T.astype(int))
    assert spearmanr(ours.discrimination, theirs["Discrimination"]).statistic > 0.98
    assert spearmanr(ours.difficulty, theirs["Difficulty"]).statistic > 0.98
    chosen = (set(np.argsort(-found)[:16]) for found in (ours.discrimination, theirs["Discrimination"]))
    assert len(set.intersection(*chosen)) >= 15


def top(discrimination, size, tie):
    """The `size` most discriminating, equal ones in the order of `tie`."""
    return set(np.lexsort((tie, -np.round(discrimination, 4)))[:size])


@pytest.mark.parametrize("task", ["boolean_expressions", "kind_of_thing"])
def test_a_published_package_chooses_the_same_by_real_answers(task):
    # girth's Bayesian variant, with its own prior on the discrimination. Measured: rank correlations of 0.993 and 0.945
    # (discrimination), 0.991 and 0.986 (difficulty), and the same 20 of 40 in both tasks. Two random halves share 17 or
    # more with a probability of 1e-5. Without a prior girth puts 35 of the 40 questions of `kind_of_thing` at its bound
    # of 5, and their order says nothing.
    answers = json.loads(RESPONSES.read_text())[task]["correct"].values()
    correct = np.array([[mark == "1" for mark in row] for row in answers])
    ours, theirs = irt.fit(correct), girth.twopl_mml_eap(correct.T.astype(int))
    assert spearmanr(ours.discrimination, theirs["Discrimination"]).statistic > 0.9
    assert spearmanr(ours.difficulty, theirs["Difficulty"]).statistic > 0.95
    # Questions with the same answers are equal to both fits: opposite orders, so that these do not count as agreement.
    order = np.arange(correct.shape[1])
    assert len(top(ours.discrimination, 20, order) & top(theirs["Discrimination"], 20, -order)) >= 17
    assert ours.converged and ours.discrimination.max() < 3


@pytest.mark.parametrize("shape", [(1, 5), (5, 0)])
def test_too_little_to_fit(shape):
    with pytest.raises(DataError, match="at least 2 respondents"):
        irt.fit(np.zeros(shape, dtype=bool))
