from collections import Counter
from dataclasses import replace

import pytest

from arte_plugin.run.manifest import Count, Manifest
from arte_plugin.show.tables import WIDTH, format_table, stage_table, wrap
from arte_plugin.stages.compare import Comparison, comparison_lines


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def test_columns_of_numbers_are_flush_right_and_words_are_not():
    lines = [
        ["task", "n", "share", "95 % interval", "p", "time", "note"],
        ["a", "5", "5.0 %", "-1.2 to +3.4", "< 0.001", "5s", "3 left"],
        ["1st", "10", "", "0.0 to 100.0", "-", "1m05s", "10"],
    ]
    assert format_table(lines).split("\n") == [
        "task   n  share  95 % interval        p   time  note",
        "----  --  -----  -------------  -------  -----  ------",
        "a      5  5.0 %   -1.2 to +3.4  < 0.001     5s  3 left",
        "1st   10          0.0 to 100.0        -  1m05s  10",
    ]


def test_what_a_stage_dropped_and_its_note_stand_below_its_line_in_a_hundred_columns(tmp_path):
    manifest = Manifest(tmp_path / "manifest.json")
    dropped = {f"a_reason_of_some_length_{i}": 3 for i in range(5)}
    note = " ".join(f"word{i}" for i in range(60))
    manifest.record("regenerate", {}, [Count("questions of the unaligned teacher", 27, 12, dropped, note)], {}, 75.0)
    table = stage_table(manifest.stages(), ["regenerate", "sft"])
    head, _, line, *below, not_run = table.splitlines()
    assert head.split() == ["stage", "what", "made", "kept", "asked", "from", "cache", "time"]
    assert " ".join(line.split()) == "regenerate questions of the unaligned teacher 27 12 0 0 1m15s"
    assert not_run.split() == ["sft", "not", "run", "yet"]
    assert max(map(len, table.splitlines())) <= WIDTH == 100
    # Below what it is of, set in; a number and its reason in one line.
    assert all(row.startswith(" " * (head.index("what") + 2)) for row in below)
    reasons = ", ".join(f"3 {reason}" for reason in dropped)
    assert " ".join(" ".join(below).split()) == f"dropped: {reasons} {note}"
    assert not any(row.endswith(" 3") for row in below)


def test_comparisons_fit_and_keep_every_word():
    one = Comparison("a-student", 0, "unaligned", "arte", 30, 4, 0, -0.133, -0.255, 0.005, 0.125, shows="both of them")
    for rows in ([one], [one, replace(one, student="another-student")]):
        lines = comparison_lines(rows)
        table = format_table(lines).splitlines()
        assert max(map(len, table)) <= 100
        (rule,) = [line for line in table if set(line) == {"-", " "}]
        words = [word for line in table if line != rule for word in line.split()]
        assert Counter(words) == Counter(word for row in lines for cell in row for word in cell.split())


def test_the_head_gives_way_first_then_words_then_numbers():
    lines = [["a head of words", "some words", "n"], ["1", "in one place", "1.2 to 3.4"]]
    assert format_table(lines).split("\n") == [
        "a head of words  some words             n",
        "---------------  ------------  ----------",
        "              1  in one place  1.2 to 3.4",
    ]
    assert format_table(lines, 35).split("\n") == [
        "a head of  some words             n",
        "    words",
        "---------  ------------  ----------",
        "        1  in one place  1.2 to 3.4",
    ]
    assert format_table(lines, 25).split("\n") == [
        "    a  some             n",
        " head  words",
        "   of",
        "words",
        "-----  ------  ----------",
        "    1  in one  1.2 to 3.4",
        "       place",
    ]
    # No narrower than its words.
    assert format_table(lines, 5).split("\n")[4:] == [
        "-----  -----  ---",
        "    1  in     1.2",
        "       one     to",
        "       place  3.4",
    ]


def test_a_wider_terminal_is_used(monkeypatch):
    said = " ".join(["word"] * 30)
    assert [len(line) for line in wrap(said).splitlines()] == [99, 49]
    monkeypatch.setenv("COLUMNS", "160")
    assert wrap(said) == said
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, wrap(said).splitlines())) == 99


def test_paths_stay_in_one_piece():
    path = "/a-folder/" + "x-y" * 50
    assert wrap(f"See {path}", "  ") == f"See\n  {path}"
