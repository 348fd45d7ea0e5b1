"""Whether what is chosen is longer than what is rejected."""

from arte_plugin.diagnostics.length import Length, apart
from arte_plugin.plugs import Evidence, NoSettings
from tests.diagnosed import Offline, a_pair, a_task


def table(pairs):
    return Length(NoSettings()).table([a_task()], {"sums": Evidence(pairs=pairs)}, [], Offline())[1:]


def test_a_table_by_hand():
    # 3, 5 and 4 characters more, one less: the mean is 2.75, the standard deviation 2.630, t(3) 3.182.
    pairs = [a_pair("a" * long, "b" * short) for long, short in ((13, 10), (16, 11), (24, 20), (7, 8))]
    assert table(pairs) == [
        ["sums", "rationale", "4", "15.0", "12.2", "+2.8", "-1.4 to +6.9", "75.0 % of 4", "30.1 to 95.4", "50 %",
         "0.625"]
    ]  # fmt: skip


def test_a_preference_for_length_is_seen():
    # All of 12 are longer: 2 in 2 ** 12.
    [line] = table([a_pair("a" * (20 + i), "b" * (10 + i)) for i in range(12)])
    assert line[-1] == "< 0.001" and line[7] == "100.0 % of 12"


def test_equal_lengths_say_nothing():
    [line] = table([a_pair("aa", "bb"), a_pair("cc", "dd")])
    assert line[7:] == ["all the same", "", "50 %", "1.000"]


def test_levels_are_told_apart_and_no_draft_counts_twice():
    one = a_pair("abc", "d", ("x", "y"))
    again, shares, other = a_pair("abc", "d", ("x", "y")), a_pair("ab", "e", ("z", "y")), a_pair("ab", "f", ("v", "w"))
    assert apart([one, again, shares, other]) == [one, other]
    lines = table([one, again, other, a_pair("abcd", "b", level="question")])
    assert [line[:3] for line in lines] == [["sums", "rationale", "2"], ["sums", "question", "1"]]
    # One pair has no spread.
    assert lines[1][6] == ""


def test_nothing_is_shown_of_no_pairs():
    assert table([]) == []
