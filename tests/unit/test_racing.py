"""Racing over made-up matrices: what is asked, in which order, and where it ends. No model."""

import math
import random

import pytest

from arte_plugin.config.probe import RacingArgs
from arte_plugin.stages.racing import Standing, race, settled

QUESTIONS, RATIONALES, SET = 8, 4, 40


def matrix(seed: int, spread: float = 0.35) -> dict[tuple[str, str], bool]:
    """Outcomes of drafts whose chances differ by `spread`, on questions of different difficulty."""
    rng = random.Random(seed)
    ease = [rng.uniform(-0.2, 0.2) for _ in range(SET)]
    cells = {}
    for question in range(QUESTIONS):
        for rationale in range(RATIONALES):
            skill = 0.5 + rng.uniform(-spread, spread)
            for i in range(SET):
                cells[f"q{question}-r{rationale}", f"p{i:02d}"] = rng.random() < skill + ease[i]
    return cells


class Student:
    """Answers from the matrix, and remembers what it was asked in each round."""

    def __init__(self, cells):
        self.cells = cells
        self.rounds: list[list[tuple[str, str]]] = []

    def __call__(self, asked):
        self.rounds.append(list(asked))
        return [self.cells[cell] for cell in asked]

    @property
    def asked(self):
        return [cell for cells in self.rounds for cell in cells]


def run(cells, seed="s", quantile=0.25, **settings):
    student = Student(cells)
    question_of = {draft: draft.split("-")[0] for draft, _ in cells}
    preference_ids = list(dict.fromkeys(preference for _, preference in cells))
    return student, race(question_of, preference_ids, RacingArgs(**{"first": 8, **settings}), quantile, seed, student)


@pytest.mark.parametrize("settings", [{}, {"share": 0.3, "step": 7}, {"share": 1.0, "confidence": 0.95}, {"first": 1}])
def test_no_cell_is_asked_twice_and_the_standings_are_what_was_answered(settings):
    cells = matrix(1)
    student, standings = run(cells, **settings)
    assert len(set(student.asked)) == len(student.asked)
    for draft, standing in standings.items():
        of_draft = [cell for cell in student.asked if cell[0] == draft]
        assert standing == Standing(len(of_draft), sum(cells[cell] for cell in of_draft), SET)


def test_the_share_is_spent_and_never_exceeded():
    for share in (0.25, 0.4, 0.5, 0.77):
        student, _ = run(matrix(2), share=share)
        assert len(student.asked) == int(share * QUESTIONS * RATIONALES * SET)


def test_every_draft_gets_its_first_batch_whatever_the_share():
    student, standings = run(matrix(3), first=10, share=0.01)
    assert len(student.rounds) == 1 and {standing.asked for standing in standings.values()} == {10}
    assert len({question for _, question in student.asked}) == 10


@pytest.mark.parametrize("rationales", [1, RATIONALES])
def test_with_the_whole_share_and_nothing_settled_all_is_asked(rationales):
    cells = {cell: right for cell, right in matrix(4).items() if cell[0][-1] < str(rationales)}
    student, standings = run(cells, share=1.0)
    assert set(student.asked) == set(cells)
    for draft, standing in standings.items():
        assert standing.score == sum(right for (of, _), right in cells.items() if of == draft) / SET


def test_a_first_batch_of_more_than_the_set_is_the_whole_set():
    cells = matrix(4)
    student, _ = run(cells, first=100)
    assert student.rounds[0] and set(student.asked) == set(cells) and len(student.rounds) == 1


def test_the_same_again_and_another_order_for_another_seed():
    cells = matrix(5)
    first, again, other = (run(cells, seed=seed)[0].rounds for seed in ("a", "a", "b"))
    assert first == again and first != other


def test_the_order_of_drafts_and_questions_does_not_matter():
    cells = matrix(6)
    shuffled = list(cells.items())
    random.Random(0).shuffle(shuffled)
    assert {cell for cell in run(cells)[0].asked} == {cell for cell in run(dict(shuffled))[0].asked}


def test_all_drafts_go_through_the_questions_in_one_order():
    student, _ = run(matrix(7))
    longest: list[str] = []
    of_draft: dict[str, list[str]] = {}
    for draft, question in student.asked:
        of_draft.setdefault(draft, []).append(question)
    longest = max(of_draft.values(), key=len)
    assert all(questions == longest[: len(questions)] for questions in of_draft.values())
    assert len({len(questions) for questions in of_draft.values()}) > 2, "some must have been probed further"


def test_what_is_clear_is_left_and_what_is_open_is_probed():
    rng = random.Random(0)
    cells = {}
    for question in range(4):
        for rationale in range(RATIONALES):
            for i in range(SET):
                # The first rationale of two questions is always right, the rest of theirs never; others are even.
                even = rng.random() < 0.5
                right = even if question > 1 else rationale == 0
                cells[f"q{question}-r{rationale}", f"p{i:02d}"] = right
    _, standings = run(cells, share=0.6)
    clear = [standing.asked for draft, standing in standings.items() if draft[:2] in ("q0", "q1")]
    even = [standing.asked for draft, standing in standings.items() if draft[:2] not in ("q0", "q1")]
    assert max(clear) < min(even)


def test_confidence_ends_it_sooner():
    calls = [len(run(matrix(8), share=1.0, confidence=c)[0].asked) for c in (0.9, 0.99, 0.999, 1.0)]
    assert calls == sorted(calls) and calls[0] < calls[-1] == QUESTIONS * RATIONALES * SET


def test_sureness_by_hand():
    a, b, c = Standing(10, 8, 40), Standing(10, 5, 40), Standing(10, 2, 40)
    sure = settled({"x": a, "y": b, "z": c}, {"x": "q", "y": "q", "z": "q"}, 0.25)
    # Beta-binomial: 30 left, Laplace's shares 9/12, 6/12 and 3/12, each with the weight of 12 answers.
    variance = {key: 30 * p * (1 - p) * 42 / 13 / 1600 for key, p in (("x", 0.75), ("y", 0.5), ("z", 0.25))}
    assert a.variance == pytest.approx(variance["x"])
    pair = 0.6 / math.sqrt(variance["x"] + variance["z"])
    assert sure == pytest.approx({"x": pair, "y": pair, "z": pair}), "there is one question, so no question-level pair"
    assert Standing(40, 7, 40).variance == 0


def test_the_middle_between_the_shares_is_what_questions_are_measured_by():
    # Two of eight are the best share and two the worst: their inner edges are at 6 and 2 of 8, the middle is at 4.
    rights = (8, 6, 5, 4, 4, 4, 2, 1)
    standings = {f"q{i}": Standing(8, right, 40) for i, right in enumerate(rights)}
    sure = settled(standings, {draft: draft for draft in standings}, 0.25)
    gaps = (4, 2, 3, 4, 4, 4, 2, 3)
    expected = [gap / 8 / math.sqrt(standings[draft].variance) for draft, gap in zip(standings, gaps, strict=True)]
    assert list(sure.values()) == pytest.approx(expected)


def test_one_draft_alone_is_asked_its_first_batch():
    cells = {("q0-r0", f"p{i}"): True for i in range(20)}
    student, standings = run(cells, confidence=0.99)
    assert standings["q0-r0"].asked == 8 and len(student.rounds) == 1
