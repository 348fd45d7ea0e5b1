"""Pairs of the student's own attempts: what is chosen, what is rejected, and what makes no pair."""

import random

import pytest

from arte_plugin.config.pair import PairArgs
from arte_plugin.config.plugs import chosen
from arte_plugin.pairings.attempts import asked
from arte_plugin.plugs import Bounds, Evidence, Scored
from arte_plugin.rows import Attempt, Dropped, TailoredExample

REFERENCE = "By the book. <ans>4</ans>"


def example(question="2 + 2?", target="4", answer="4", rationale=REFERENCE):
    return TailoredExample("sums", question, target, rationale, answer, f"Add up. {question}")


def attempts(one, *texts, target="4"):
    """A reply each; what stands between its tags is right where it is the target, and none makes it unparsed."""
    made = []
    for sample, text in enumerate(texts, 1):
        answer = text.partition("<ans>")[2].partition("</ans>")[0]
        outcome = "unparsed" if not answer else "correct" if answer == target else "wrong"
        name = asked(one).question_id
        made.append(Attempt(f"{name}-{sample}", "tuned", "sums", name, sample, "asked", text, answer, outcome))
    return made


def make(name, examples, tried, fits=lambda prompt, text: True, answer="number", **settings):
    strategy = chosen("pairings", {name: settings}).made()
    evidence = Evidence(examples={"arte": examples}, attempts=tried)
    bounds = Bounds(1, fits, answer, 0, 10**6, 0.0)
    rows = list(strategy.pairs("sums", (), Scored({}, {}, None), evidence, bounds, random.Random(1)))
    return [row for row in rows if not isinstance(row, Dropped)], [row for row in rows if isinstance(row, Dropped)]


RIGHT, WRONG = "Two and two. <ans>4</ans>", "Guess. <ans>5</ans>"


def test_right_over_wrong_behind_the_prompt_that_the_student_was_tuned_on():
    one = example()
    [pair], dropped = make("right_over_wrong", [one], attempts(one, WRONG, RIGHT))
    assert (pair.chosen, pair.rejected, pair.prompt, pair.level) == (RIGHT, WRONG, one.prompt, "rationale")
    assert dropped == []


def test_all_right_makes_no_pair_and_all_wrong_takes_the_reference():
    one = example()
    pairs, dropped = make("right_over_wrong", [one], attempts(one, RIGHT, RIGHT))
    assert (pairs, [row.reason for row in dropped]) == ([], ["rationale_none_wrong"])
    [pair], _ = make("right_over_wrong", [one], attempts(one, WRONG, WRONG))
    assert (pair.chosen, pair.rejected) == (REFERENCE, WRONG)
    pairs, dropped = make("right_over_wrong", [one], attempts(one, WRONG), reference=False)
    assert (pairs, [row.reason for row in dropped]) == ([], ["rationale_none_right"])


def test_a_reference_that_misses_its_own_target_is_no_better():
    one = example(answer="6", rationale="By the book. <ans>6</ans>")
    pairs, dropped = make("right_over_wrong", [one], attempts(one, WRONG))
    assert (pairs, [row.reason for row in dropped]) == ([], ["rationale_reference_off_target"])


def test_a_text_is_paired_once_and_so_many_a_question():
    one = example()
    texts = [f"Way {i}. <ans>{4 if i % 2 else 5}</ans>" for i in range(6)] + ["Way 1. <ans>4</ans>"]
    pairs, _ = make("right_over_wrong", [one], attempts(one, *texts), per_question=100)
    assert len(pairs) == 9 == len({row.pair_id for row in pairs})
    assert len(make("right_over_wrong", [one], attempts(one, *texts), per_question=2)[0]) == 2


def test_each_side_ends_with_its_answers_tag_and_what_has_none_is_told():
    one = example()
    tried = attempts(one, RIGHT + " And so on.", "It goes on and on", WRONG + "\nMore.")
    [pair], dropped = make("right_over_wrong", [one], tried)
    assert (pair.chosen, pair.rejected) == (RIGHT, WRONG)
    assert [(row.reason, row.text) for row in dropped] == [("rationale_unparsed", "It goes on and on")]


def test_only_unreadable_attempts_make_no_pair():
    one = example()
    pairs, dropped = make("right_over_wrong", [one], attempts(one, "It goes on"))
    assert pairs == [] and [row.reason for row in dropped] == ["rationale_unparsed", "rationale_none_readable"]


def test_an_attempt_belongs_to_its_own_question():
    one, other = example(), example("3 + 3?", target="6", answer="6", rationale="Three. <ans>6</ans>")
    tried = [*attempts(one, RIGHT), *attempts(other, "Five. <ans>5</ans>", target="6")]
    [pair], dropped = make("right_over_wrong", [one, other, other], tried)
    assert (pair.prompt, pair.chosen) == (other.prompt, "Three. <ans>6</ans>")
    assert [row.id for row in dropped] == [asked(one).question_id]


def test_teacher_over_student_rejects_what_is_wrong_unless_all_is_asked_for():
    one = example()
    tried = attempts(one, RIGHT, WRONG, WRONG)
    [pair], dropped = make("teacher_over_student", [one], tried)
    assert (pair.chosen, pair.rejected) == (REFERENCE, WRONG)
    assert [row.reason for row in dropped] == ["rationale_attempt_right", "rationale_repeated"]
    pairs, _ = make("teacher_over_student", [one], tried, only="all")
    assert [row.rejected for row in pairs] == [RIGHT, WRONG]


def test_a_rationale_that_misses_its_own_target_is_not_chosen_over_an_attempt_that_does():
    """It ends where the attempt does: what the pair would teach is to follow one wrong way rather than another."""
    one = example(answer="5", rationale="Two and two make <ans>5</ans>")
    pairs, dropped = make("teacher_over_student", [one], attempts(one, WRONG, RIGHT))
    assert not pairs and [row.reason for row in dropped] == ["rationale_reference_off_target"]
    # Without a judge it is chosen, as in PLaD.
    pairs, _ = make("teacher_over_student", [one], attempts(one, WRONG, RIGHT), only="all")
    assert len(pairs) == 2


def test_an_attempt_that_is_the_rationale_makes_no_pair():
    one = example()
    pairs, dropped = make("teacher_over_student", [one], attempts(one, REFERENCE), only="all")
    assert (pairs, [row.reason for row in dropped]) == ([], ["rationale_same_text"])


@pytest.mark.parametrize("name", ["right_over_wrong", "teacher_over_student"])
def test_what_does_not_fit_is_dropped(name):
    one = example()
    pairs, dropped = make(name, [one], attempts(one, WRONG), fits=lambda prompt, text: "Guess" not in text)
    assert (pairs, [row.reason for row in dropped]) == ([], ["rationale_too_long"])


def test_the_teachers_pairs_are_not_made_of_them():
    with pytest.raises(ValueError, match=r"makes pairs for the student: it goes into `student.dpo.pairing`"):
        PairArgs(pairing="right_over_wrong")
