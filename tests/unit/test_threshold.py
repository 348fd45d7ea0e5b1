import pytest
from pydantic import ValidationError

from arte_plugin.config.pair import PairArgs
from arte_plugin.stages.pairing import pair
from tests.unit.test_pair import draft, everything_fits, table


def make(drafts, scores, fits=everything_fits, question_pairs=0, rationale_pairs=250, **settings):
    args = PairArgs(pairing={"threshold": settings}, question_pairs=question_pairs, rationale_pairs=rationale_pairs)
    return pair(drafts, scores, args, 42, fits, kinds={"sums": "number"}, pairing=args.strategy.made())


def couples(pairs):
    return [(one.chosen_id, one.rejected_id) for one in pairs]


def test_every_two_rationales_further_apart_than_the_gap_and_the_gap_itself_is_not():
    """The paper's example in our rows: .90 over .45 is a pair; .90 over .60 is a gap of .30, which is not more."""
    drafts = [draft("q1", f"t{i}") for i in range(3)]
    scores = dict(zip((one.draft_id for one in drafts), (0.90, 0.45, 0.60), strict=True))
    pairs, dropped = make(drafts, scores)
    assert couples(pairs) == [("q1-t0", "q1-t1")]
    assert sorted((row.reason, row.id) for row in dropped) == [
        ("rationale_within_margin", "q1-t0>q1-t2"),
        ("rationale_within_margin", "q1-t2>q1-t1"),
    ]


def test_the_widest_gaps_first_and_so_many_a_question():
    drafts, scores = table(q1=(0, 9, 5, 2), q2=(1, 8))
    pairs, dropped = make(drafts, scores, per_question=2)
    assert couples(pairs) == [("q1-t1", "q1-t0"), ("q1-t1", "q1-t3"), ("q2-t1", "q2-t0")]
    assert sum(row.reason == "rationale_per_question" for row in dropped) == 2
    assert len({one.pair_id for one in pairs}) == 3
    # All of a question's couples are pairs or dropped.
    assert len(pairs) + len(dropped) == 6 + 1


def test_with_one_a_question_and_no_gap_it_is_best_and_worst():
    drafts, scores = table(**{f"q{i}": tuple((7 * i + 3 * t + t * t) % 11 for t in range(4)) for i in range(30)})
    drafts = [one for one in drafts if len({scores[f"{one.question_id}-t{t}"] for t in range(4)}) == 4]
    ours, _ = make(drafts, scores, per_question=1, gap=0.0)
    papers, _ = pair(drafts, scores, PairArgs(question_pairs=0), 42, everything_fits)
    assert len(ours) > 10 and couples(ours) == couples(papers)


def test_what_is_chosen_is_good_and_what_is_rejected_is_bad():
    drafts, scores = table(q1=(9, 5, 1))
    pairs, dropped = make(drafts, scores, gap=0.0, above=0.9, below=0.5)
    assert couples(pairs) == [("q1-t0", "q1-t2"), ("q1-t0", "q1-t1")]
    assert [row.reason for row in dropped] == ["rationale_chosen_too_low"]
    _, dropped = make(drafts, scores, gap=0.0, below=0.4)
    assert [row.reason for row in dropped] == ["rationale_rejected_too_high"]


def test_what_makes_no_pair_is_told():
    drafts = [
        draft("q1", "t0", "same <ans>2</ans>"),
        draft("q1", "t1", "same <ans>2</ans>"),
        *table(q2=(9, 1, 5, 5))[0],
    ]
    drafts.append(draft("q3", "t0"))
    scores = dict(zip((one.draft_id for one in drafts), (0.1, 0.9, 0.9, 0.1, 0.5, 0.5, 0.5), strict=True))
    pairs, dropped = make(drafts, scores, lambda prompt, text: "By t1" not in text)
    assert set(couples(pairs)) == {("q2-t0", "q2-t2"), ("q2-t0", "q2-t3")}
    assert sorted(row.reason for row in dropped) == sorted(
        ["rationale_same_text", "rationale_tie", *["rationale_too_long"] * 3, "rationale_alone"]
    )


def test_the_limit_of_a_task_holds_and_the_draw_is_seeded():
    drafts, scores = table(**{f"q{i}": (0, 4, 8) for i in range(10)})
    pairs, dropped = make(drafts, scores, rationale_pairs=7)
    assert len(pairs) == 7 and sum(row.reason == "rationale_surplus" for row in dropped) == 23
    assert pairs == make(drafts, scores, rationale_pairs=7)[0]


def test_questions_are_paired_as_in_best_worst():
    drafts, scores = table(**{f"q{i}": (i, i) for i in range(8)})
    pairs, _ = make(drafts, scores, question_pairs=50, gap=0.9)
    papers, _ = pair(drafts, scores, PairArgs(), 42, everything_fits)
    assert [one for one in pairs if one.level == "question"] == [one for one in papers if one.level == "question"]
    assert len(pairs) == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pairing": "treshold"}, "there is no pairing `treshold`: did you mean `threshold`?"),
        ({"pairing": {"threshold": {"gab": 1}}}, "`threshold.gab`: there is no such key; did you mean `gap`?"),
        ({"pairing": {"best_worst": {"quantile": 0.1}}}, "keys of `arte.pair` itself"),
        ({"pairing": "threshold", "equal_answers": True}, "`equal_answers` is a setting of `pairing: best_worst`"),
    ],
)
def test_a_wrong_entry_is_told(given, said):
    with pytest.raises(ValidationError) as error:
        PairArgs(**given)
    assert said in str(error.value)


def test_only_what_is_not_the_default_is_among_the_inputs():
    assert PairArgs().identity == PairArgs(pairing={"best_worst": None}).identity == {}
    assert not {"pairing", "repeat"} & PairArgs().decisive().keys()
    one, other = PairArgs(pairing="threshold"), PairArgs(pairing={"threshold": {"gap": 0.2}})
    assert one.identity["pairing"]["settings"]["gap"] == 0.3
    assert one.identity != other.identity
    assert "repeat" in PairArgs(repeat={}).decisive()


def test_a_pairing_for_the_student_is_refused(monkeypatch):
    from arte_plugin.config import plugs
    from arte_plugin.pairings.threshold import Threshold

    known = {"theirs": type("Theirs", (Threshold,), {"trains": "student"})}
    monkeypatch.setitem(plugs.POINTS, "pairings", (known, plugs.POINTS["pairings"][1]))
    with pytest.raises(ValidationError, match=r"goes into `student.dpo.pairing`"):
        PairArgs(pairing="theirs")
