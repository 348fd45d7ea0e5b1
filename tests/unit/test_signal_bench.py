"""The table of signals beside the paper's score, on rows whose correlation is known."""

import math

import numpy as np

from arte_plugin.rows import Probe
from benchmarks.signals.correlate import compared, halves, spearman, within

IDS = [f"q{i}-{technique}" for i in range(10) for technique in "abcd"]
QUESTION_OF = {name: name.partition("-")[0] for name in IDS}
SCORE = {name: float(place) for place, name in enumerate(np.random.default_rng(1).permutation(IDS))}


def test_a_signal_that_is_the_score_and_one_that_is_its_opposite():
    same, opposite = (
        compared(SCORE, SCORE, QUESTION_OF),
        compared({k: -v for k, v in SCORE.items()}, SCORE, QUESTION_OF),
    )
    assert same == ["40", "40", "+1.00", "+1.00 to +1.00", "< 0.001", "+1.00", "< 0.001", "10"]
    assert opposite[2:4] == ["-1.00", "-1.00 to -1.00"] and opposite[5] == "-1.00"


def test_noise_is_called_noise_and_a_signal_of_questions_alone_has_nothing_within():
    rng = np.random.default_rng(5)
    noise = compared({name: rng.random() for name in IDS}, SCORE, QUESTION_OF)
    low, high = map(float, noise[3].split(" to "))
    assert low < 0 < high and float(noise[4]) > 0.05 and float(noise[6]) > 0.05
    by_question = compared({name: float(name[1]) for name in IDS}, SCORE, QUESTION_OF)
    assert by_question[1] == "10" and by_question[5:] == ["", "", ""]
    assert compared(dict.fromkeys(IDS, 0.5), SCORE, QUESTION_OF)[2] == "all the same"


def test_spearman_with_ties_and_within_groups():
    one, other = np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    # Ranks 1, 2.5, 2.5, 4 and 1 to 4.
    assert math.isclose(spearman(one, other), 4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(spearman(one, np.ones(4)))
    groups = [np.array([0, 1]), np.array([1, 2]), np.array([2, 3])]
    found, count = within(one, -other, groups)
    assert math.isclose(found, -1.0) and count == 2


def test_halves_share_no_preference_question():
    rows = [
        Probe("q0-a", f"p{i}", "t", "s", "", "", "correct" if i in (0, 2, 3) else "wrong") for i in range(4)
    ]  # fmt: skip
    assert halves(rows) == ({"q0-a": 1.0}, {"q0-a": 0.5})
