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
        [evaluated("base", "1" * 10 + "0" * 20), evaluated("arte", "1" * 8 + "0" * 2 + "1" * 12 + "0" * 8)]
    )
    assert (row.first, row.second, row.n, row.first_only, row.second_only) == ("base", "arte", 30, 2, 12)
    assert row.difference == pytest.approx(10 / 30)
    # Exact McNemar, by hand: 2 * (1 + 14 + 91) / 2**14.
    assert row.p == pytest.approx(2 * 106 / 2**14)


def test_interval_is_the_published_one():
    # Agresti and Min (2005) with b = 2, c = 12, n = 30: (10 ± 1.96 · sqrt(15 - 100 / 32)) / 32.
    (row,) = compare(
        [evaluated("base", "1" * 10 + "0" * 20), evaluated("arte", "1" * 8 + "0" * 2 + "1" * 12 + "0" * 8)]
    )
    half = 1.959964 * (15 - 100 / 32) ** 0.5
    assert (row.low, row.high) == pytest.approx(((10 - half) / 32, (10 + half) / 32))


def test_equal_students_do_not_differ():
    (row,) = compare([evaluated("base", "1100"), evaluated("arte", "1100")])
    assert (row.difference, row.p) == (0.0, 1.0)
    assert row.low < 0 < row.high


def test_tasks_go_together_and_shots_do_not():
    rows = compare(
        [
            evaluated(arm, right, task, shots)
            for shots in (0, 3)
            for task in ("sums", "words")
            for arm, right in (("base", "0000"), ("arte", "1100"), ("question_only", "1000"))
        ],
    )
    assert [(row.shots, row.first, row.second, row.n, row.second_only) for row in rows[:3]] == [
        (0, "base", "arte", 8, 4),
        (0, "base", "question_only", 8, 2),
        (0, "question_only", "arte", 8, 2),
    ]
    assert [row.shots for row in rows] == [0, 0, 0, 3, 3, 3]


def test_table_shows_points_and_small_p_as_small():
    lines = comparison_lines(compare([evaluated("base", "0" * 20), evaluated("arte", "1" * 15 + "0" * 5)]))
    assert lines[1][:8] == ["0", "base", "arte", "teaching and alignment", "20", "0", "15", "+75.0"]
    assert lines[1][-1] == "< 0.001"
    assert comparison_lines(compare([evaluated("base", "01"), evaluated("arte", "11")]))[1][-1] == "1.000"


def test_table_says_which_comparison_shows_teaching_and_which_alignment():
    arms = ("base", "arte", "unaligned", "question_only")
    rows = compare([evaluated(arm, "01") for arm in arms])
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
    rows = compare(some)
    assert [(row.student, row.first, row.second, row.n) for row in rows] == [
        ("s", "base", "arte", 2),
        ("t", "base", "arte", 2),
    ]
    assert comparison_lines(rows)[0][1] == "student"


def test_with_one_seed_p_is_about_the_two_students():
    one = [evaluated("base", "0011"), evaluated("arte", "0111", seed=1)]
    assert comparison_lines(compare(one))[0][-1] == "p (these two students)"
    assert comparison_lines(compare([*one, evaluated("arte", "0110", seed=2)]))[0][-1] == "p"


def test_tasks_count_the_same_as_in_the_table_of_averages():
    # Of 1,000 questions of one task nothing changes, of 20 of the other a half.
    rows = [
        evaluated(arm, right, task)
        for arm, right, task in (
            ("base", "10" * 500, "long"), ("arte", "10" * 500, "long"),
            ("base", "0" * 20, "short"), ("arte", "10" * 10, "short"),
        )
    ]  # fmt: skip
    (row,) = compare(rows)
    averages = {arm: (0.5 + short) / 2 for arm, short in (("base", 0.0), ("arte", 0.5))}
    assert row.difference == pytest.approx(averages["arte"] - averages["base"]) == 0.25
    assert (row.n, row.tasks, row.first_only, row.second_only) == (1020, 2, 0, 10)
    # Half of the standard error of the short task's difference, which is 0.5 ± 0.11.
    assert row.high - row.low == pytest.approx(1.96 * 0.11, abs=0.03) and row.p < 0.001


def test_of_several_seeds_the_mean_counts():
    base = evaluated("base", "0" * 40)
    seeds = [evaluated("arte", right, seed=i) for i, right in enumerate(("1" * 20 + "0" * 20, "1" * 10 + "0" * 30))]
    (row,) = compare([base, *seeds])
    assert (row.n, row.seeds, row.first_only, row.second_only) == (40, 2, None, None)
    assert row.difference == pytest.approx(15 / 40)
    # Two seeds that are 25 points apart tell little of a third one.
    assert row.low < 0 < row.high and row.p > 0.05
    alike = [evaluated("arte", "1" * 15 + "0" * 25, seed=i) for i in range(3)]
    (row,) = compare([base, *alike])
    assert row.difference == pytest.approx(15 / 40) and row.low > 0.15 and row.p < 0.001


def test_seeds_that_differ_both_ways_show_no_difference():
    first = [evaluated("base", "1" * 10 + "0" * 10), *(evaluated("arte", "0" * 10 + "1" * 10, seed=i) for i in (1, 2))]
    (row,) = compare(first)
    assert row.difference == 0
    assert row.low < 0 < row.high
    assert row.p > 0.9
