"""Pairs that are probably right, on made-up students whose true preferences are known. No model."""

import numpy as np
import pytest

from arte_plugin.config.pair import PairArgs
from arte_plugin.errors import DataError
from arte_plugin.rows import Score
from arte_plugin.stages.pairing import pair
from arte_plugin.stages.shrinkage import Belief, above, shrink
from tests.unit.test_pair import draft, everything_fits

QUESTIONS, T, ASKED = 150, 4, 40


def student(seed, of_rationale, name="s", of_question=0.8, quality=None):
    """Drafts, scores, cells, and each draft's true score over all preference questions that there could be."""
    rng = np.random.default_rng(seed)
    question = rng.normal(0, of_question, QUESTIONS).repeat(T)
    quality = rng.normal(0, of_rationale, QUESTIONS * T) if quality is None else quality
    ease = rng.normal(0, 1, ASKED)
    many = np.random.default_rng(99).normal(0, 1, 300)

    def chances(ease):
        return 1 / (1 + np.exp(-((question + quality)[:, None] + ease - 0.5)))

    answers = (rng.random((QUESTIONS * T, ASKED)) < chances(ease)).astype(float)
    drafts = [draft(f"q{i}", f"t{j}") for i in range(QUESTIONS) for j in range(T)]
    ids = [one.draft_id for one in drafts]
    scores = [
        Score(one.draft_id, one.question_id, "sums", name, float(row.mean()), ASKED, 0.0, 1.0, 0)
        for one, row in zip(drafts, answers, strict=True)
    ]
    cells = {
        (name, key): {f"p{k}": value for k, value in enumerate(row)} for key, row in zip(ids, answers, strict=True)
    }
    return drafts, scores, cells, dict(zip(ids, chances(many).mean(axis=1), strict=True))


def made(drafts, scores, cells, level="rationale", **settings):
    limits = {"question_pairs": 400 * (level == "question"), "rationale_pairs": 400 * (level == "rationale")}
    scored = {row.draft_id: row.score for row in scores}
    return pair(
        drafts,
        scored,
        PairArgs(**limits, **settings),
        1,
        everything_fits,
        lambda task: shrink(drafts, scores, cells, {}),
    )


def right(pairs, true):
    return np.mean([true[one.chosen_id] > true[one.rejected_id] for one in pairs])


@pytest.mark.parametrize("with_cells", [True, False])
def test_the_pairs_that_are_kept_are_right_as_often_as_is_said(with_cells):
    every, kept_right, shares = [], [], []
    for seed in range(4):
        drafts, scores, cells, true = student(seed, of_rationale=0.35)
        pairs, _ = made(drafts, scores, {})
        kept, dropped = made(drafts, scores, cells if with_cells else {}, min_probability=0.9)
        assert "rationale_improbable" in {row.reason for row in dropped}
        every.append(right(pairs, true))
        kept_right.append(right(kept, true))
        shares.append(len(kept) / QUESTIONS)
    assert np.mean(every) < 0.92 < np.mean(kept_right)
    assert 0.15 < np.mean(shares) < 0.9


def test_the_probability_is_calibrated():
    told, true_ones = [], []
    for seed in range(4):
        drafts, scores, cells, true = student(seed, of_rationale=0.35)
        beliefs = shrink(drafts, scores, cells, {}).drafts
        for i in range(0, len(drafts), T):
            one, other = drafts[i].draft_id, drafts[i + 1].draft_id
            told.append(above(beliefs[one], beliefs[other]))
            true_ones.append(true[one] > true[other])
    told, true_ones = np.array(told), np.array(true_ones)
    for low, high in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.9)):
        inside = (told > low) & (told < high)
        assert true_ones[inside].mean() == pytest.approx(told[inside].mean(), abs=0.1)


@pytest.mark.parametrize("with_cells", [True, False])
def test_rationales_that_do_not_differ_make_no_pair(with_cells):
    drafts, scores, cells, _ = student(5, of_rationale=0.0)
    assert len(made(drafts, scores, {})[0]) > 0.9 * QUESTIONS
    with pytest.raises(DataError, match=r"150 rationale_improbable.*`pair.min_probability`"):
        made(drafts, scores, cells if with_cells else {}, min_probability=0.8)


def test_question_pairs_are_kept_where_questions_differ():
    drafts, scores, cells, _ = student(6, of_rationale=0.2)
    assert len(made(drafts, scores, cells, "question", min_probability=0.9)[0]) == 400
    drafts, scores, cells, _ = student(6, of_rationale=0.0, of_question=0.0)
    with pytest.raises(DataError, match="question_improbable"):
        made(drafts, scores, cells, "question", min_probability=0.9)


def siblings_agree(seed, of_question, questions=60, agreement=0.25):
    """Drafts, scores, cells and true qualities, where a question's rationales do alike on a preference question."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0, 1, ASKED)
    quality = rng.normal(0, of_question, questions)
    shared = rng.normal(0, agreement**0.5, (questions, ASKED)).repeat(T, axis=0)
    own = rng.normal(0, (1 - agreement) ** 0.5, shared.shape)
    answers = (shared + own < ease + quality.repeat(T)[:, None]).astype(float)
    drafts = [draft(f"q{i}", f"t{j}") for i in range(questions) for j in range(T)]
    rows = dict(zip((one.draft_id for one in drafts), answers, strict=True))
    scores = [
        Score(one.draft_id, one.question_id, "sums", "s", float(rows[one.draft_id].mean()), ASKED, 0.0, 1.0, 0)
        for one in drafts
    ]
    cells = {("s", key): {f"p{k}": value for k, value in enumerate(row)} for key, row in rows.items()}
    return drafts, scores, cells, quality


def surely_apart(seed, of_question):
    """Share of the pairs of best and worst quarter that are believed right at 0.9, and the share of these that are."""
    drafts, scores, cells, quality = siblings_agree(seed, of_question)
    beliefs = list(shrink(drafts, scores, cells, {}).questions.values())
    order = np.argsort([belief.mean for belief in beliefs])
    quarter = len(order) // 4
    found = [
        quality[i] > quality[j]
        for i in order[-quarter:]
        for j in order[:quarter]
        if above(beliefs[i], beliefs[j]) >= 0.9
    ]
    return len(found) / quarter**2, float(np.mean(found)) if found else None


def test_equal_questions_whose_rationales_agree_are_seldom_believed_to_differ():
    kept = [surely_apart(seed, 0.0)[0] for seed in range(12)]
    assert np.mean(kept) < 0.1
    for seed in range(3):
        share, were_right = surely_apart(seed, 0.4)
        assert share > 0.9 and were_right > 0.95


def test_a_score_of_few_answers_is_believed_less():
    drafts, scores, _, _ = student(7, of_rationale=0.5)
    few = [
        Score(row.draft_id, row.question_id, row.task, row.student, 1.0, 4, 0.0, 1.0, 0) if i == 0 else row
        for i, row in enumerate(scores)
    ]
    many = [
        Score(row.draft_id, row.question_id, row.task, row.student, 1.0, 40, 0.0, 1.0, 0) if i == 0 else row
        for i, row in enumerate(scores)
    ]
    first = drafts[0].draft_id
    believed_few, believed_many = (shrink(drafts, some, {}, {}).drafts[first] for some in (few, many))
    assert believed_few.mean < believed_many.mean - 0.1 and believed_few.variance > believed_many.variance


def test_two_students_who_like_the_same_are_believed_more_than_one():
    quality = np.random.default_rng(8).normal(0, 0.35, QUESTIONS * T)
    drafts, scores, cells, _ = student(8, 0.35, "a", quality=quality)
    _, others, more, _ = student(9, 0.35, "b", quality=quality)
    alone = shrink(drafts, scores, cells, {})
    both = shrink(drafts, scores + others, {**cells, **more}, {"a": 1.0, "b": 1.0})
    ids = [one.draft_id for one in drafts]
    assert np.mean([both.drafts[key].variance for key in ids]) < 0.7 * np.mean(
        [alone.drafts[key].variance for key in ids]
    )
    only_a = shrink(drafts, scores + others, {**cells, **more}, {"a": 1.0, "b": 1e-9})
    assert only_a.drafts[ids[0]].mean == pytest.approx(alone.drafts[ids[0]].mean, abs=1e-6)


def test_what_is_known_is_above_or_not():
    assert (above(Belief(0.5, 0.0), Belief(0.4, 0.0)), above(Belief(0.4, 0.0), Belief(0.4, 0.0))) == (1.0, 0.5)
    assert above(Belief(0.5, 0.01), Belief(0.4, 0.0)) == pytest.approx(0.8413, abs=1e-4)
