from dataclasses import replace

import pytest

from arte_plugin.config.pair import PairArgs
from arte_plugin.errors import DataError
from arte_plugin.language import prompts
from arte_plugin.rows import Draft
from arte_plugin.stages.pairing import pair
from arte_plugin.stages.shrinkage import Belief, Shrunken


def draft(question, technique, rationale=None):
    text = prompts.question_prompt("Add.", [("1 + 1", "2")] * 3, 5)
    return Draft(
        f"{question}-{technique}", "sums", question, f"What is {question}?", "2", technique,
        rationale or f"By {technique}: <ans>2</ans>", "2", text, prompts.solve_prompt("Add.", "number", question),
    )  # fmt: skip


def table(**correct):
    """`table(q1=(3, 5))`: drafts and scores of questions with so many right answers out of 10 a technique."""
    drafts = [draft(q, f"t{i}") for q, values in correct.items() for i in range(len(values))]
    counts = [value for values in correct.values() for value in values]
    return drafts, {d.draft_id: c / 10 for d, c in zip(drafts, counts, strict=True)}


def everything_fits(prompt, completion):
    return True


def make(drafts, scores, fits=everything_fits, kinds=None, **settings):
    return pair(drafts, scores, PairArgs(**settings), 42, fits, kinds=kinds or {"sums": "number"})


def test_rationale_level_takes_best_and_worst_and_never_a_tie():
    pairs, dropped = make(*table(q1=(3, 9, 5, 5), q2=(4, 4, 4, 4)), question_pairs=0)
    assert [(p.chosen_id, p.rejected_id) for p in pairs] == [("q1-t1", "q1-t0")]
    assert [(d.reason, d.id) for d in dropped] == [("rationale_tie", "q2")]


def test_question_level_draws_from_the_best_and_the_worst_quarter():
    values = {f"q{i}": (i, i) for i in range(8)}
    pairs, _ = make(*table(**values), question_pairs=50, quantile=0.25)
    question = [p for p in pairs if p.level == "question"]
    assert {p.chosen_id for p in question} == {"q7", "q6"}
    assert {p.rejected_id for p in question} == {"q1", "q0"}
    assert len(question) == 4
    assert all(p.chosen.startswith("<Question_4><input>") for p in question)


def test_question_pairs_is_a_limit_and_the_draw_is_seeded():
    drafts, scores = table(**{f"q{i}": (i, i) for i in range(8)})
    first, _ = make(drafts, scores, question_pairs=2)
    again, _ = make(drafts, scores, question_pairs=2)
    assert first == again
    assert sum(p.level == "question" for p in first) == 2


def test_margin():
    drafts, scores = table(q1=(3, 5), q2=(3, 6))
    pairs, dropped = make(drafts, scores, question_pairs=0, margin=0.2)
    assert [p.chosen_id for p in pairs] == ["q2-t1"]
    assert [d.reason for d in dropped] == ["rationale_within_margin"]


def test_too_long_pairs_are_counted():
    drafts, scores = table(q1=(3, 5), q2=(3, 6))
    pairs, dropped = make(drafts, scores, fits=lambda prompt, completion: "q2" not in prompt, question_pairs=0)
    assert [p.pair_id for p in pairs] == ["r-q1"]
    assert [(d.reason, d.id) for d in dropped] == [("rationale_too_long", "q2")]


def test_a_rationale_that_is_too_long_leaves_its_place_to_the_next():
    drafts, scores = table(q1=(3, 9, 5, 1))
    (one,), dropped = make(drafts, scores, fits=lambda prompt, completion: "By t1" not in completion, question_pairs=0)
    assert (one.chosen_id, one.rejected_id, dropped) == ("q1-t2", "q1-t3", [])
    (one,), _ = make(drafts, scores, fits=lambda prompt, completion: "By t3" not in completion, question_pairs=0)
    assert (one.chosen_id, one.rejected_id) == ("q1-t1", "q1-t0")


def test_a_question_pair_that_is_too_long_leaves_its_place_to_another():
    drafts, scores = table(**{f"q{i}": (i, i) for i in range(8)})

    def short(prompt, completion):
        return "What is q7?" not in completion

    pairs, dropped = make(drafts, scores, fits=short, question_pairs=2, rationale_pairs=1)
    assert {one.chosen_id for one in pairs if one.level == "question"} == {"q6"}
    assert sum(one.level == "question" for one in pairs) == 2
    assert {row.reason for row in dropped if row.reason.startswith("question")} <= {"question_too_long"}


def test_equal_texts_make_no_pair():
    drafts = [draft("q1", "t0", "same <ans>2</ans>"), draft("q1", "t1", "same <ans>2</ans>"), *table(q2=(1, 2))[0]]
    scores = {d.draft_id: s for d, s in zip(drafts, (0.1, 0.9, 0.1, 0.2), strict=True)}
    pairs, dropped = make(drafts, scores, question_pairs=0)
    assert [p.pair_id for p in pairs] == ["r-q2"]
    assert [d.reason for d in dropped] == ["rationale_same_text"]


def test_only_ties_is_an_error_that_counts_them():
    with pytest.raises(DataError, match=r"1 question_tie, 2 rationale_tie"):
        make(*table(q1=(4, 4), q2=(4, 4)))


def test_drafts_and_scores_of_different_runs():
    drafts, _ = table(q1=(1, 2))
    _, scores = table(other=(1, 2))
    with pytest.raises(DataError, match="different runs"):
        make(drafts, scores)


def test_a_preference_that_shrinking_turns_round_is_no_tie():
    """A technique's mean can say more than a rationale's own few probes."""
    drafts, scores = table(q1=(4, 3), q2=(3, 3), q3=(1, 9))
    beliefs = {one.draft_id: Belief(0.4 + 0.2 * (one.technique == "t1"), 0.01) for one in drafts}
    settings = PairArgs(min_probability=0.5, question_pairs=0)
    pairs, dropped = pair(drafts, scores, settings, 42, everything_fits, lambda task: Shrunken(beliefs, {}))
    assert [one.pair_id for one in pairs] == ["r-q3"]
    assert [(d.reason, d.id) for d in dropped] == [("rationale_reversed", "q1"), ("rationale_tie", "q2")]


def test_float_noise_is_no_preference():
    drafts = [draft("q1", "t0"), draft("q1", "t1"), *table(q2=(1, 2))[0]]
    scores = {d.draft_id: s for d, s in zip(drafts, (0.1, 0.1 + 1e-15, 0.1, 0.2), strict=True)}
    pairs, dropped = make(drafts, scores, question_pairs=0)
    assert [p.pair_id for p in pairs] == ["r-q2"]
    assert [d.reason for d in dropped] == ["rationale_tie"]


def test_equal_answers_pairs_the_widest_gap_among_rationales_with_one_answer():
    drafts, scores = table(q1=(1, 9, 4, 8), q2=(2, 7))
    answers = {"q1-t0": "3", "q1-t1": "2", "q1-t2": "2", "q1-t3": "2", "q2-t0": "3", "q2-t1": "2"}
    drafts = [replace(one, answer=answers[one.draft_id]) for one in drafts]
    pairs, _ = make(drafts, scores, question_pairs=0)
    assert [(p.chosen_id, p.rejected_id) for p in pairs] == [("q1-t1", "q1-t0"), ("q2-t1", "q2-t0")]
    pairs, dropped = make(drafts, scores, question_pairs=0, equal_answers=True)
    assert [(p.chosen_id, p.rejected_id) for p in pairs] == [("q1-t1", "q1-t2")]
    assert [(row.reason, row.id) for row in dropped] == [("rationale_answers_differ", "q2")]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("boolean", ("Yes", "True", "No", "False"), ("q1-t1", "q1-t0")),
        ("number", ("8", "8.0", "9", "10"), ("q1-t1", "q1-t0")),
        ("text", ("a, b", "a b", "c", "d"), ("q1-t1", "q1-t0")),
        ("text", ("Yes", "True", "No", "No"), ("q1-t3", "q1-t2")),
        # What can't be read is no other's equal, but its own.
        ("number", ("none", "1", "2", "none"), ("q1-t3", "q1-t0")),
    ],
)
def test_equal_answers_are_equal_as_answers_of_the_tasks_kind(kind, given, expected):
    drafts, scores = table(q1=(1, 9, 4, 8), q2=(2, 7))
    drafts = [replace(one, answer=answer) for one, answer in zip(drafts, [*given, given[0], given[0]], strict=True)]
    pairs, _ = make(drafts, scores, kinds={"sums": kind}, question_pairs=0, equal_answers=True)
    assert [(p.chosen_id, p.rejected_id) for p in pairs] == [expected, ("q2-t1", "q2-t0")]
