import pytest

from arte_plugin.rows import Result
from arte_plugin.stages.compare import Comparison, Evaluated, compare, comparison_lines


def evaluated(arm: str, right: str, task: str = "sums", shots: int = 0, student: str = "s", seed=None) -> Evaluated:
    """`right` holds a 1 for each question that was answered right."""
    outcomes = {f"q{i}": mark == "1" for i, mark in enumerate(right)}
    n, correct = len(right), right.count("1")
    return Evaluated(Result(task, "", arm, student, shots, n, correct, 0, correct / n, 0.0, 1.0, seed), outcomes)


def test_only_the_questions_that_one_got_right_count():
    (row,) = compare(
        [evaluated("base", "1" * 10 + "0" * 20), evaluated("arte", "1" * 8 + "0" * 2 + "1" * 12 + "0" * 8)], 1
    )
    assert (row.first, row.second, row.n, row.first_only, row.second_only) == ("base", "arte", 30, 2, 12)
    assert row.difference == pytest.approx(10 / 30)
    # Exact McNemar, by hand: 2 * (1 + 14 + 91) / 2**14.
    assert row.p == pytest.approx(2 * 106 / 2**14)


def test_interval_is_the_published_one():
    # Agresti and Min (2005) with b = 2, c = 12, n = 30: (10 ± 1.96 · sqrt(15 - 100 / 32)) / 32.
    (row,) = compare(
        [evaluated("base", "1" * 10 + "0" * 20), evaluated("arte", "1" * 8 + "0" * 2 + "1" * 12 + "0" * 8)], 1
    )
    half = 1.959964 * (15 - 100 / 32) ** 0.5
    assert (row.low, row.high) == pytest.approx(((10 - half) / 32, (10 + half) / 32))


def test_equal_students_do_not_differ():
    (row,) = compare([evaluated("base", "1100"), evaluated("arte", "1100")], 1)
    assert (row.difference, row.p) == (0.0, 1.0)
    assert row.low < 0 < row.high


def test_tasks_are_pooled_and_shots_are_not():
    rows = compare(
        [
            evaluated(arm, right, task, shots)
            for shots in (0, 3)
            for task in ("sums", "words")
            for arm, right in (("base", "0000"), ("arte", "1100"), ("question_only", "1000"))
        ],
        1,
    )
    assert [(row.shots, row.first, row.second, row.n, row.second_only) for row in rows[:3]] == [
        (0, "base", "arte", 8, 4),
        (0, "base", "question_only", 8, 2),
        (0, "question_only", "arte", 8, 2),
    ]
    assert [row.shots for row in rows] == [0, 0, 0, 3, 3, 3]


def test_table_shows_points_and_small_p_as_small():
    lines = comparison_lines(compare([evaluated("base", "0" * 20), evaluated("arte", "1" * 15 + "0" * 5)], 1))
    assert lines[1][:8] == ["0", "base", "arte", "teaching and alignment", "20", "0", "15", "+75.0"]
    assert lines[1][-1] == "< 0.001"
    assert comparison_lines(compare([evaluated("base", "01"), evaluated("arte", "11")], 1))[1][-1] == "1.000"


def test_table_says_which_comparison_shows_teaching_and_which_alignment():
    arms = ("base", "arte", "unaligned", "question_only")
    rows = compare([evaluated(arm, "01") for arm in arms], 1)
    lines = comparison_lines(rows)
    shows = lines[0].index("shows")
    assert {(line[1], line[2]): line[shows] for line in lines[1:]} == {
        ("base", "arte"): "teaching and alignment",
        ("base", "unaligned"): "teaching",
        ("base", "question_only"): "",
        ("unaligned", "arte"): "alignment",
        ("question_only", "arte"): "",
    }
    # Results of an earlier version do not have it.
    assert Comparison("s", 0, "base", "arte", 1, 0, 0, 0.0, 0.0, 0.0, 1.0).shows == ""


def test_students_are_compared_with_themselves_only():
    some = [evaluated(arm, right, student=name) for name in "st" for arm, right in (("base", "00"), ("arte", "01"))]
    rows = compare(some, 1)
    assert [(row.student, row.first, row.second, row.n) for row in rows] == [
        ("s", "base", "arte", 2),
        ("t", "base", "arte", 2),
    ]
    assert comparison_lines(rows)[0][1] == "student"


def test_of_several_seeds_a_question_counts_by_the_share_that_got_it_right():
    base = evaluated("base", "0" * 40)
    seeds = [evaluated("arte", right, seed=i) for i, right in enumerate(("1" * 20 + "0" * 20, "1" * 10 + "0" * 30))]
    (row,) = compare([base, *seeds], 1)
    assert (row.n, row.first_only, row.second_only) == (40, None, None)
    assert row.difference == pytest.approx(15 / 40)
    # The mean of 40 differences of which 10 are 1, 10 are 0.5 and 20 are 0 has this standard error.
    error = ((10 * (1 - 0.375) ** 2 + 10 * (0.5 - 0.375) ** 2 + 20 * 0.375**2) / 40 / 40) ** 0.5
    assert (row.low, row.high) == pytest.approx((0.375 - 1.96 * error, 0.375 + 1.96 * error), abs=0.02)
    # Twenty differences, all of one sign: 2 of 2**20 ways to flip them are as extreme.
    assert row.p < 0.001
    assert compare([base, *seeds], 1) == [row]


def test_seeds_that_differ_both_ways_show_no_difference():
    first = [evaluated("base", "1" * 10 + "0" * 10), *(evaluated("arte", "0" * 10 + "1" * 10, seed=i) for i in (1, 2))]
    (row,) = compare(first, 1)
    assert row.difference == 0
    assert row.low < 0 < row.high
    assert row.p > 0.9
