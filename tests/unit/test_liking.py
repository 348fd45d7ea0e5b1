"""Whether a student likes what was written: figures by hand, and how often chance is taken for an effect."""

import numpy as np
import pytest
from scipy.stats import t

from arte_plugin.stages.before_after import Answers, liking
from arte_plugin.stages.liking import FLIPS, paired, paired_shares, sign_flip_p
from benchmarks.align_check.false_alarms import Setting, rates


def test_difference_is_the_mean_over_tasks_whatever_their_sizes():
    first = np.zeros((4, 3)), np.ones((4, 3))
    second = np.zeros((2, 6)), np.zeros((2, 6))
    found = paired([first, second])
    assert (found.before, found.after, found.difference) == (0.0, 0.5, 0.5)


def test_where_only_draft_questions_vary_the_interval_is_students_over_them():
    values = np.array([0.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    after = np.repeat(values[:, None], 40, axis=1)
    found = paired([(np.zeros_like(after), after)])
    half = t.ppf(0.975, 4) * np.std(values, ddof=1) / 6**0.5
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)


def test_where_only_validation_questions_vary_the_interval_is_students_over_them():
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    after = np.repeat(values[None, :], 30, axis=0)
    found = paired([(np.zeros_like(after), after)])
    half = t.ppf(0.975, 4) * np.std(values, ddof=1) / 5**0.5
    assert found.high - found.difference == pytest.approx(half, rel=1e-6)


def test_rationales_that_did_not_change_make_nothing_sure():
    """Four of forty changed, all for the better: one in eight times by chance."""
    after = np.zeros((40, 60))
    after[:4] = 1
    found = paired([(np.zeros_like(after), after)])
    assert found.difference == pytest.approx(0.1)
    assert found.low < 0
    assert sign_flip_p([(np.zeros_like(after), after)], 1) == pytest.approx(2 / 2**4)


def test_an_interval_stays_within_what_shares_can_do():
    """One rationale of twelve changed: of how much others vary nothing is known, but no share leaves 0 to 1."""
    before = np.ones((12, 8))
    before[:, 3:] = 0
    after = before.copy()
    after[3, :3] = 0
    alone = paired([(before, after)])
    assert alone.low < -0.375 and alone.difference == pytest.approx(-1 / 32)
    answers = Answers(before, after, np.ones((12, 8)), np.ones((12, 8)))
    found = liking([answers], 1)
    assert found["score"]["low"] == -0.375 and found["score"]["high"] == pytest.approx(alone.high)
    assert found["readable"]["before"] == 1 and found["readable"]["low"] < 0 == found["readable"]["high"]


def test_no_difference_at_all_has_an_interval_too():
    same = np.ones((5, 6))
    found = paired([(same, same)])
    assert found.difference == 0
    assert found.low < 0 < found.high
    assert sign_flip_p([(same, same)], 1) == 1.0


def test_signs_are_flipped_at_random_where_there_are_many():
    after = np.ones((30, 2))
    assert sign_flip_p([(np.zeros((30, 2)), after)], 1) == 1 / (FLIPS + 1)
    rng = np.random.default_rng(3)
    noise = [(rng.random((30, 20)) < 0.5).astype(float) for _ in range(2)]
    assert sign_flip_p([(noise[0], noise[1])], 1) > 0.05


def test_score_is_readable_times_right_when_readable():
    rng = np.random.default_rng(1)
    readable = [(rng.random((20, 30)) < share).astype(float) for share in (0.5, 0.9)]
    right = [some * (rng.random((20, 30)) < 0.6) for some in readable]
    score, form = paired([tuple(right)]), paired([tuple(readable)])
    content = paired_shares([(right[0], readable[0], right[1], readable[1])])
    assert content is not None
    assert score.before == pytest.approx(form.before * content.before)
    assert score.after == pytest.approx(form.after * content.after)
    assert form.low > 0.2
    assert content.low < 0 < content.high
    assert paired_shares([(right[0] * 0, readable[0] * 0, right[1], readable[1])]) is None


@pytest.mark.parametrize(
    "setting",
    [Setting(40, 60, 0.3), Setting(40, 60, 1.0, by_question=0.5), Setting(8, 6, 1.0, tasks=2), Setting(40, 60, 0.1)],
    ids=["as it is mostly", "different and no better", "as small as the demo", "few changed"],
)
def test_chance_is_seldom_taken_for_liking(setting):
    """Two in a hundred and a half by design; a seed decides the simulation."""
    found = rates(setting, 400)
    for wrong in ("liked", "liked_less", "readable", "right_when_readable"):
        assert found[wrong] / found["runs"] <= 0.05, wrong


def test_an_effect_is_mostly_seen():
    found = rates(Setting(40, 60, 1.0, better=0.5), 100)
    assert found["liked"] > 60
    assert found["liked_less"] == 0
