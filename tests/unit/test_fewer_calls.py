"""The committed matrix, and what is counted on it."""

import pytest

np = pytest.importorskip("numpy")

import policies  # noqa: E402
from matrix import load  # noqa: E402
from sweep import compare, tried  # noqa: E402


@pytest.fixture(scope="module")
def task():
    return load()[0]


def test_every_draft_has_every_preference_question(task):
    assert len(task.question_of) >= 64 and len(task.preference_ids) == 40
    assert len(task.cells) == len(task.question_of) * 40


def test_the_full_scores_agree_with_themselves_and_their_opposite_with_nothing(task):
    full = {draft: task.full_score(draft) for draft in task.question_of}
    same = compare(task, full)
    assert same["same_sign_all"] == same["identical"] == 1 and same["contradicted"] == 0
    opposite = compare(task, {draft: -score for draft, score in full.items()})
    assert opposite["same_sign_all"] == opposite["identical"] == 0 and opposite["contradicted"] == 1
    flat = {draft: score + (draft == min(full)) for draft, score in dict.fromkeys(full, 0.5).items()}
    assert compare(task, flat)["same_sign_all"] < 0.5, "ties are changes"


def test_with_all_probes_every_way_comes_to_the_full_scores(task):
    full = {draft: task.full_score(draft) for draft in task.question_of}
    for way in (policies.racing, policies.uniform, policies.discriminating, policies.halving, policies.quartiles):
        assert way(task, 0, share=1.0) == (full, len(task.cells))


def test_no_way_spends_more_than_its_share(task):
    for way in (policies.racing, policies.uniform, policies.discriminating, policies.halving, policies.quartiles):
        assert way(task, 0, share=0.4)[1] <= 0.4 * len(task.cells)


def test_racing_keeps_nearly_all_pairs_at_half_the_calls(task):
    """What the page says, at fewer orders."""
    found = tried(task, policies.racing, seeds=5)
    assert found["calls"]["greatest"] <= 0.5
    assert found["same_sign_all"]["mean"] >= 0.95
