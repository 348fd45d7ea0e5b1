from arte_plugin.tables import format_table


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
