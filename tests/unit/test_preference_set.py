import pytest

from arte_plugin.config.preference_set import PreferenceSetArgs
from arte_plugin.errors import DataError
from arte_plugin.rows import Question, Response
from arte_plugin.stages.choosing import choose
from arte_plugin.stages.stability import UNTOLD

QUESTIONS = [Question(f"id{i}", "t", f"question {i}", "Yes") for i in range(8)]


def responses(right):
    """`right(respondent, question)` for six respondents."""
    return [
        Response(f"r{r}", 0, "t", f"id{q}", "", "", "correct" if right(r, q) else "wrong")
        for r in range(6)
        for q in range(8)
    ]


def test_irt_takes_questions_that_tell_good_respondents_from_bad():
    # The better half answers 0 to 3; nobody answers 4 and 5; 6 and 7 are answered by the worse half.
    rows = responses(lambda r, q: (r >= 3) if q < 4 else (False if q < 6 else r < 3 and q == r + 5))
    chosen, report = choose(QUESTIONS, rows, PreferenceSetArgs(size=4), 1)
    assert [row.preference_id for row in chosen] == ["id0", "id1", "id2", "id3"]
    assert all(row.discrimination > 1 for row in chosen)
    assert [q["share_correct"] for q in report["questions"][:5]] == [0.5] * 4 + [0.0]
    assert report["stability"]["overlap"] is None, "six respondents are too few"
    assert choose(QUESTIONS, rows, PreferenceSetArgs(size=4), 1) == (chosen, report)


def test_flat_questions_in_the_set_are_counted():
    # All right or all wrong, but for one question.
    _, report = choose(QUESTIONS, responses(lambda r, q: q < 2 or (q == 2 and r > 2)), PreferenceSetArgs(size=4), 1)
    assert report["stability"]["flat"] == 3 and report["stability"]["respondents"] == 6


def test_questions_that_nobody_or_everybody_gets_right_come_last():
    rows = responses(lambda r, q: q < 5 or (q == 5 and r > 3) or (q == 6 and r < 3))
    chosen, _ = choose(QUESTIONS, rows, PreferenceSetArgs(size=2), 1)
    assert [row.preference_id for row in chosen] == ["id5", "id6"]


def test_controls():
    chosen, _ = choose(QUESTIONS, [], PreferenceSetArgs(method="random", size=3), 1)
    assert len(chosen) == 3 and chosen[0].discrimination is None
    assert choose(QUESTIONS, [], PreferenceSetArgs(method="random", size=3), 1)[0] == chosen
    assert choose(QUESTIONS, [], PreferenceSetArgs(method="random", size=3), 2)[0] != chosen
    everything, _ = choose(QUESTIONS, [], PreferenceSetArgs(method="all"), 1)
    assert [row.preference_id for row in everything] == [q.question_id for q in QUESTIONS]


@pytest.mark.parametrize(("method", "chance"), [("random", 3 / 8), ("all", 1.0)])
def test_controls_have_the_report_of_irt(method, chance):
    chosen, report = choose(QUESTIONS, [], PreferenceSetArgs(method=method, size=3), 1)
    _, of_irt = choose(QUESTIONS, responses(lambda r, q: r > q), PreferenceSetArgs(size=3), 1)
    assert report["stability"] == {**UNTOLD, "overlap": chance, "chance": chance}
    assert report["stability"].keys() == of_irt["stability"].keys()
    assert [q["question_id"] for q in report["questions"] if q["chosen"]] == [row.preference_id for row in chosen]
    assert len(report["questions"]) == len(of_irt["questions"]) == 8 and report["respondents"] == []


def test_more_than_there_are():
    with pytest.raises(DataError, match="is 40, but there are 8"):
        choose(QUESTIONS, [], PreferenceSetArgs(), 1)


def test_a_missing_answer():
    with pytest.raises(DataError, match="incomplete"):
        choose(QUESTIONS, responses(lambda r, q: True)[:-1], PreferenceSetArgs(size=2), 1)
