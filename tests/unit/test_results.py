"""The accuracy table."""

from statistics import stdev

import pytest

from arte_plugin.rows import Result, wilson
from arte_plugin.show.results import result_lines


def row(task="a", arm="base", correct=40, n=100, student="s", seed=None) -> Result:
    return Result(task, "", arm, student, 0, n, correct, 5, correct / n, *wilson(correct, n), seed)


def test_table_has_intervals_and_an_average_over_tasks():
    rows = [
        row(task, arm, correct)
        for task, arm, correct in [("a", "base", 40), ("b", "base", 60), ("a", "arte", 50), ("b", "arte", 70)]
    ]
    lines = [" ".join(line).split() for line in result_lines(rows)]
    assert lines[1] == ["a", "0", "base", "100", "40.0", "%", "30.9", "to", "49.8", "5.0", "%"]
    assert lines[-1][:6] == ["(average)", "0", "arte", "200", "60.0", "%"]
    low, high = float(lines[-1][6]), float(lines[-1][8])
    assert 52 < low < 60 < high < 68
    assert len(result_lines(rows[:1])) == 2


def test_seeds_are_averaged_and_their_spread_is_shown():
    rows = [row(), *(row(arm="arte", correct=correct, seed=seed) for seed, correct in enumerate((50, 60, 70)))]
    head, base, arte = result_lines(rows)
    assert head[-2:] == ["SD of 3 seeds", "unparsed"]
    assert base[-2] == ""
    # Three students at 60 % on 100 questions know no more of other questions than one does.
    low, high = wilson(60, 100)
    assert arte[3:] == ["100", "60.0 %", f"{100 * low:.1f} to {100 * high:.1f}", "10.0", "5.0 %"]


def test_over_tasks_the_spread_is_that_of_each_seeds_average():
    correct = {"a": (50, 60), "b": (50, 40)}
    rows = [
        row(task, "arte", of_seed, seed=seed) for task, both in correct.items() for seed, of_seed in enumerate(both)
    ]
    lines = result_lines(rows)
    assert [float(line[-2]) for line in lines[1:]] == pytest.approx([100 * stdev((0.5, 0.6)), 7.1, 0.0], abs=0.05)


def test_several_students_have_a_column():
    lines = result_lines([row(student="s"), row(student="t", correct=60)])
    assert [line[2] for line in lines] == ["student", "s", "t"]
