import json

import numpy as np
import pytest

from arte_plugin.diagnostics.preference_set import preference_set_lines
from arte_plugin.errors import DataError
from arte_plugin.rows import Draft, Probe
from arte_plugin.run.manifest import Manifest, hash_file
from arte_plugin.show.preference_set import preference_set_tables
from arte_plugin.stages.set_consistency import (
    STAGE,
    Agreement,
    agreement,
    check,
    drawn,
    preference_set_report,
)
from arte_plugin.stages.stability import UNTOLD


def draft(question, number):
    return Draft(f"{question}-{number}", "sums", question, "", "", f"t{number}", "", "", "", "")


def compare(on_set, on_whole):
    """One question, its drafts' numbers of right answers on the set and on the whole."""
    return agreement(np.array(on_set), np.array(on_whole), [list(range(len(on_set)))])


@pytest.mark.parametrize(
    ("on_set", "on_whole", "expected"),
    [
        ((3, 1, 2, 0), (9, 5, 6, 4), Agreement(1, 1, 1, 0)),
        ((3, 1, 2, 0), (5, 9, 6, 4), Agreement(1, 0, 1, 0)),
        ((3, 1, 2, 0), (9, 2, 6, 4), Agreement(1, 1, 0, 0)),
        # Two best on the whole: either will do.
        ((3, 1, 2, 0), (9, 9, 6, 4), Agreement(1, 1, 1, 0)),
        # Two best on the set: pairing takes the first, which is not the best on the whole.
        ((3, 1, 3, 0), (8, 5, 9, 4), Agreement(1, 0, 1, 0)),
        # Two worst on the set: pairing takes the last.
        ((3, 0, 1, 0), (8, 5, 9, 4), Agreement(1, 0, 1, 0)),
        ((3, 0, 1, 0), (9, 4, 8, 5), Agreement(1, 1, 0, 0)),
        # No pair, so no agreement either.
        ((2, 2, 2, 2), (9, 5, 6, 4), Agreement(0, 0, 0, 1)),
        # No best to be found, whatever the set says.
        ((3, 1, 2, 0), (7, 7, 7, 7), Agreement(0, 0, 0, 0)),
        ((2, 2, 2, 2), (7, 7, 7, 7), Agreement(0, 0, 0, 0)),
    ],
)
def test_agreement(on_set, on_whole, expected):
    assert compare(on_set, on_whole) == expected


@pytest.mark.parametrize("seed", range(8))
def test_ties_on_the_set_are_broken_as_in_pairing(seed):
    from arte_plugin.config.pair import PairArgs
    from arte_plugin.stages.pairing import pair
    from tests.unit.test_pair import everything_fits, table

    drafts, scores = table(q1=(10, 0, 10, 0, 10))
    (one,), _ = pair(drafts, scores, PairArgs(question_pairs=0), seed, everything_fits)
    # The whole has one best and one worst: each of the set's ties agrees only if it is the one that pairing takes.
    marks = {one.chosen_id: "1111", one.rejected_id: "0000"}
    rows = [
        Probe(each.draft_id, question, "sums", "s", "", "", "correct" if mark == "1" else "wrong")
        for each in drafts
        for question, mark in zip(
            VALIDATION, marks.get(each.draft_id, "1000" if scores[each.draft_id] else "0100"), strict=True
        )
    ]
    found = check(drafts, rows, VALIDATION, {"v0"}, seed)["s"]["preference_set"]
    assert (found["best"]["same"], found["worst"]["same"], found["compared"]) == (1, 1, 1)


VALIDATION = ["v0", "v1", "v2", "v3"]


def probes(table, student="s"):
    """`{"q1": ["1100", "0011"]}`: for each question its drafts, right or not on v0, v1, …"""
    drafts = [draft(question, i) for question, rows in table.items() for i in range(len(rows))]
    marks = [row for rows in table.values() for row in rows]
    made = [
        Probe(one.draft_id, question, "sums", student, "", "", "correct" if mark == "1" else "unparsed")
        for one, row in zip(drafts, marks, strict=True)
        for question, mark in zip(VALIDATION, row, strict=True)
    ]
    return drafts, made


TABLE = {
    "agrees": ["1111", "0000"],
    "turned": ["1000", "0111"],
    "tied on the set": ["1010", "1000"],
    "tied on all": ["1100", "0011"],
}


def test_check_counts_questions_and_leaves_ties_out():
    drafts, rows = probes(TABLE)
    # Other drafts' probes lie in the same file.
    found = check(drafts, [*rows, *probes({"other": ["1111", "0000"]})[1]], VALIDATION, {"v0"}, 1)["s"]
    assert (found["questions"], found["drafts"], found["validation"], found["size"]) == (4, 8, 4, 1)
    assert found["tied_on_validation_set"] == 1
    mine = found["preference_set"]
    assert (mine["compared"], mine["tied"]) == (2, 1)
    assert (mine["best"]["same"], mine["best"]["n"], mine["best"]["share"]) == (1, 2, 0.5)
    assert mine["worst"]["share"] == 0.5
    assert mine["best"]["low"] == pytest.approx(0.0945, abs=1e-4)


def test_random_sets_are_what_sets_of_this_size_come_to():
    drafts, rows = probes({"agrees": ["1111", "0000"], "turned": ["1000", "0111"]})
    random_sets = check(drafts, rows, VALIDATION, {"v0"}, 1)["s"]["random_sets"]
    # `turned` disagrees on v0 alone, which is a quarter of the sets of one: 0.5 there, 1 elsewhere.
    assert random_sets["best"]["share"] == pytest.approx(0.875, abs=0.04)
    assert (random_sets["best"]["low"], random_sets["best"]["high"]) == (0.5, 1.0)
    assert random_sets["compared"] == 2
    assert check(drafts, rows, VALIDATION, {"v0"}, 1) == check(drafts[::-1], rows[::-1], VALIDATION, {"v0"}, 1)


def test_the_whole_agrees_with_itself():
    drafts, rows = probes(TABLE)
    found = check(drafts, rows, VALIDATION, set(VALIDATION), 1)["s"]
    assert found["preference_set"]["best"]["share"] == found["random_sets"]["worst"]["share"] == 1.0
    assert found["preference_set"]["rank_correlation"] == pytest.approx(1.0)


def test_nothing_to_compare():
    drafts, rows = probes({"q": ["0000", "0000"]})
    found = check(drafts, rows, VALIDATION, {"v0"}, 1)["s"]
    assert found["preference_set"]["best"] == {"same": 0, "n": 0, "share": None, "low": 0.0, "high": 1.0}
    assert found["preference_set"]["rank_correlation"] is None
    assert found["random_sets"]["best"]["share"] is None
    assert check([], [], VALIDATION, {"v0"}, 1) == {}


def test_students_are_checked_apart():
    drafts, rows = probes({"q": ["1111", "0000"]}, "one")
    _, others = probes({"q": ["1000", "0111"]}, "two")
    found = check(drafts, [*rows, *others], VALIDATION, {"v0"}, 1)
    assert [found[student]["preference_set"]["best"]["same"] for student in ("one", "two")] == [1, 0]


def test_a_missing_probe():
    drafts, rows = probes(TABLE)
    with pytest.raises(DataError, match="incomplete"):
        check(drafts, rows[:-1], VALIDATION, {"v0"}, 1)


def test_questions_are_drawn_by_seed_among_those_with_several_drafts():
    drafts = [draft(f"q{i}", n) for i in range(9) for n in range(3)] + [draft("alone", 0)]
    chosen = drawn(drafts, 4, 1)
    assert len({d.question_id for d in chosen}) == 4 and len(chosen) == 12
    assert chosen == drawn(drafts, 4, 1) != drawn(drafts, 4, 2)
    assert {d.question_id for d in drawn(drafts, 50, 1)} == {f"q{i}" for i in range(9)}
    assert drawn([], 4, 1) == []


@pytest.fixture
def run_folder(tmp_path):
    """A run folder with a preference set of one task, checked for one student."""
    fit = {
        "method": "irt",
        "stability": {**UNTOLD, "overlap": 0.75, "chance": 0.5, "p": 0.04, "flat": 1, "splits": 5},
        "questions": [{"question_id": q, "chosen": q < "v2"} for q in VALIDATION],
    }
    for name, content in {"02-preference-set/irt.json": {"sums": fit, "early": {"method": "random"}}}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps(content))
    drafts, rows = probes(TABLE)
    (tmp_path / "03-probe").mkdir()
    (tmp_path / "03-probe/probes.jsonl").write_text("{}\n")
    (tmp_path / "03-probe/consistency.json").write_text(
        json.dumps({"sums": check(drafts, rows, VALIDATION, {"v0", "v1"}, 1)})
    )
    manifest = Manifest(tmp_path / "manifest.json")
    manifest.record("preference-set", {}, [], {}, 0)
    return tmp_path


def test_report_without_a_check_has_the_first_columns_only(run_folder):
    report = preference_set_report(run_folder)
    assert report == {
        "sums": {
            "method": "irt", "validation": 4, "size": 2, "overlap": 0.75, "chance": 0.5, "p": 0.04, "flat": 1,
            "respondents": 0, "splits": 5, "permutations": 0, "consistency": {},
        }
    }  # fmt: skip
    assert preference_set_lines(report) == [
        ["task", "preference set", "size", "of", "flat", "halves agree", "p"],
        ["sums", "irt", "2", "4", "1", "75.0 %", "0.04"],
        ["", "by chance", "2", "4", "", "50.0 %", ""],
    ]


@pytest.mark.parametrize("stability", [UNTOLD, {"overlap": 0.75, "chance": 0.5, "resamples": 20}])
def test_few_respondents_and_resampled_ones_tell_nothing(run_folder, stability):
    file = run_folder / "02-preference-set/irt.json"
    fits = json.loads(file.read_text())
    fits["sums"]["stability"] = stability
    file.write_text(json.dumps(fits))
    assert preference_set_lines(preference_set_report(run_folder))[1:] == [
        ["sums", "irt", "2", "4", "0", "can't be told", ""]
    ]


def test_report_with_a_check(run_folder):
    Manifest(run_folder / "manifest.json").record(
        STAGE, {"probes": hash_file(run_folder / "03-probe/probes.jsonl")}, [], {}, 0
    )
    report = preference_set_report(run_folder)
    assert json.loads(json.dumps(report)) == report
    head, line, random_sets = preference_set_lines(report)
    assert head[7:9] == ["compared", "best the same"] and head[-1] == "rank correlation"
    # On v0 and v1 two of the four questions tie, and another one ties on the whole.
    assert line[7:10] == ["1 of 4", "100.0 %", "20.7 to 100.0"]
    assert random_sets[:2] == ["", "by chance"] and random_sets[7] != line[7]


def test_a_check_of_other_probes_is_not_shown(run_folder):
    Manifest(run_folder / "manifest.json").record(STAGE, {"probes": "of another set"}, [], {}, 0)
    assert preference_set_report(run_folder)["sums"]["consistency"] == {}


def test_two_students_get_a_line_each(run_folder):
    found = json.loads((run_folder / "03-probe/consistency.json").read_text())["sums"]["s"]
    report = preference_set_report(run_folder)
    report["sums"]["consistency"] = {"one": found, "two": found}
    report["other"] = {**report["sums"], "consistency": {}}
    head, *lines = preference_set_lines(report)
    assert [line[-1] for line in lines] == ["one", "one", "two", "two", "", ""]
    assert {len(line) for line in lines} == {len(head)}


def test_what_is_printed_of_it_fits_with_several_students_and_long_names(run_folder, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    found = json.loads((run_folder / "03-probe/consistency.json").read_text())["sums"]["s"]
    task = preference_set_report(run_folder)["sums"]
    report = {"boolean_expressions": {**task, "consistency": {"smollm2-135m": found, "gemma-3-270m": found}}}
    printed = preference_set_tables(report)
    assert max(map(len, printed.splitlines())) <= 100
    words = [word for cells in preference_set_lines(report)[1:] for cell in cells for word in cell.split()]
    assert set(words) <= set(printed.split())
    # Two tasks of the same figures are two.
    assert preference_set_tables({"one": task, "two": task}).count("by chance") == 2
    twice = preference_set_tables({"one": {**task, "consistency": {"s": found}}, "two": task})
    assert twice.count("by chance") == 3 and "task, by" not in twice


def test_a_random_set_without_a_check_needs_one_line():
    task = {
        "method": "random", "validation": 4, "size": 2, **UNTOLD, "overlap": 0.5, "chance": 0.5, "consistency": {},
    }  # fmt: skip
    assert preference_set_lines({"sums": task})[1:] == [["sums", "random", "2", "4", "0", "50.0 %", ""]]


def test_no_preference_set_no_report(tmp_path):
    assert preference_set_report(tmp_path) == {}


def test_a_part_agrees_with_its_whole_where_drafts_do_not_differ_at_all():
    # The paper's sizes: 40 of 100 questions, four rationales. docs/preference-set.md quotes the figures.
    rng = np.random.default_rng(0)
    drafts = [draft(f"q{i}", n) for i in range(100) for n in range(4)]
    validation = [f"v{i}" for i in range(100)]
    rows = [
        Probe(one.draft_id, question, "sums", "s", "", "", "correct" if rng.random() < 0.5 else "wrong")
        for one in drafts
        for question in validation
    ]
    random_sets = check(drafts, rows, validation, set(validation[:40]), 1)["s"]["random_sets"]
    assert 0.5 < random_sets["best"]["share"] < 0.6
    assert 0.57 < random_sets["rank_correlation"] < 0.68
