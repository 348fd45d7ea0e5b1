"""Pairs that the teacher is not trained on: no question on both sides, no pair lost."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from arte_plugin.rows import PreferencePair
from arte_plugin.stages.hold_out import FEWEST, hold_out, questions_in


def rationale(question: str, task: str = "sums") -> PreferencePair:
    return PreferencePair(
        f"r-{question}", "rationale", task, "solve", "a", "b", 0.9, 0.1, f"{question}/best", f"{question}/worst"
    )


def question(best: str, worst: str, task: str = "sums") -> PreferencePair:
    return PreferencePair(f"q-{best}-{worst}", "question", task, "ask", "a", "b", 0.9, 0.1, best, worst)


def of_drafts(questions) -> dict[str, str]:
    return {f"{name}/{which}": name for name in questions for which in ("best", "worst")}


NAMES = [f"q{i}" for i in range(60)]
QUESTION_OF = of_drafts(NAMES)
names = st.sampled_from(NAMES)
pair_lists = st.lists(
    st.one_of(
        names.map(rationale),
        st.tuples(names, names).filter(lambda two: two[0] != two[1]).map(lambda two: question(*two)),
    ),
    max_size=120,
)


@given(pair_lists, st.floats(0, 0.5), st.integers(0, 3))
def test_no_question_is_on_both_sides_and_no_pair_is_lost(pairs, share, seed):
    trained, held_out, why = hold_out(pairs, QUESTION_OF, share, seed)
    sides = [{one for pair in some for one in questions_in(pair, QUESTION_OF)} for some in (trained, held_out)]
    assert not sides[0] & sides[1]
    assert sorted(map(str, trained + held_out)) == sorted(map(str, pairs))
    assert len(held_out) <= share * len(pairs) + 1e-9
    assert len(held_out) >= FEWEST or (held_out == [] and (why != "" or share == 0))
    assert hold_out(pairs, QUESTION_OF, share, seed)[0] == trained


def test_a_tenth_of_the_papers_pairs_is_held_out_of_both_levels():
    # 250 questions, of which 50 times one of the best 62 stands against one of the worst 62.
    many = [f"q{i}" for i in range(250)]
    pairs = [question(many[i % 62], many[249 - (i * 7) % 62]) for i in range(50)] + [rationale(name) for name in many]
    trained, held_out, why = hold_out(pairs, of_drafts(many), 0.1, 42)
    assert (len(trained), len(held_out), why) == (270, 30, "")
    assert {pair.level for pair in held_out} == {"question", "rationale"}


def test_few_pairs_are_all_trained_on_and_the_table_says_so():
    pairs = [rationale(name) for name in NAMES[:49]]
    trained, held_out, why = hold_out(pairs, QUESTION_OF, 0.1, 1)
    assert (trained, held_out) == (pairs, [])
    assert why == "none held out for the check: 0.1 of 49 is fewer than 5"
    assert len(hold_out([rationale(name) for name in NAMES[:50]], QUESTION_OF, 0.1, 1)[1]) == 5


def test_pairs_that_all_hang_together_stay_together():
    chain = [question(one, other) for one, other in pairwise(NAMES)]
    trained, held_out, why = hold_out(chain, {}, 0.1, 1)
    assert (trained, held_out) == (chain, [])
    assert "too many questions in common" in why


def test_questions_of_tasks_with_the_same_ids_are_others():
    pairs = [rationale(name, task) for task in ("sums", "words") for name in NAMES[:25]]
    assert len(hold_out(pairs, QUESTION_OF, 0.1, 1)[1]) == 5


def test_the_paper_holds_none_out():
    pairs = [rationale(name) for name in NAMES]
    assert hold_out(pairs, QUESTION_OF, 0.0, 1) == (pairs, [], "")
