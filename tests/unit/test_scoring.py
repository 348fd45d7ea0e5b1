"""Scores from several signals: their mix by hand, what is dropped, and stage 3 with an engine that answers at once."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest

from arte_plugin.config.block import Block
from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.signals import read_signals
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.asking import ModelAsking
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.plugs import NoSettings
from arte_plugin.rows import Attempt, Measure, Probe, Score, as_json, read_rows, write_rows
from arte_plugin.show.gap_lines import gap_note, gap_remarks, like_chance
from arte_plugin.stages.cells import read_cells
from arte_plugin.stages.gaps import gap_report
from arte_plugin.stages.measuring import Given, measure_all
from arte_plugin.stages.probing import preference_scores, probe
from arte_plugin.stages.scoring import MEASURES, QUESTIONS, Scoring, chance_not_known, question_preferences
from arte_plugin.stages.shrinkage import shrink
from tests.unit.test_gaps import by_technique, probed
from tests.unit.test_probe import TASK, AtOnce, made
from tests.unit.test_signals import draft


def measure(signal, name, value, n=1, low=None, high=None, student="s", of="draft"):
    low, high = value if low is None else low, value if high is None else high
    return Measure(signal, of, name, "sums", student, value, value, n, low, high)


def test_a_mix_by_hand():
    drafts = [draft("a-x"), draft("a-y")]
    signals = read_signals([{"answers": {"weight": 3}}, "agreement"])
    rows = [
        measure("answers", "a-x", 0.4, 40, 0.2, 0.6), measure("answers", "a-y", 0.8, 38, 0.7, 0.9),
        measure("agreement", "a-x", 1.0), measure("agreement", "a-y", 0.0),
    ]  # fmt: skip
    scores, dropped = Scoring(signals, rows).scores(drafts)
    assert dropped == []
    assert [(one.draft_id, one.question_id, one.task, one.student) for one in scores] == [
        ("a-x", "a", "sums", "s"), ("a-y", "a", "sums", "s"),
    ]  # fmt: skip
    first, second = scores
    # (3 × 0.4 + 1) / 4; the ends likewise, and agreement has no width.
    assert (first.score, first.low, first.high, first.n) == pytest.approx((0.55, 0.4, 0.7, 1))
    assert (second.score, second.low, second.high, second.n) == pytest.approx((0.6, 0.525, 0.675, 1))
    assert {one.signals for one in scores} == {"answers, agreement"}
    assert (first.unparsed, first.readable) == (0, None)


def test_what_the_probes_tell_beside_the_score_stays():
    told = Score("a-x", "a", "sums", "s", 0.4, 40, 0.2, 0.6, 9, 4, 2, 31 / 40, 16 / 31)
    rows = [measure("answers", "a-x", 0.4, 40, 0.2, 0.6), measure("agreement", "a-x", 1.0)]
    (found,), _ = Scoring(read_signals(["answers", "agreement"]), rows).scores([draft("a-x")], {("a-x", "s"): told})
    assert replace(found, score=0.4, n=40, low=0.2, high=0.6, signals="") == told and found.score == 0.7


def test_a_signal_alone_is_taken_as_it_is():
    rows = [measure("ifd", "a-x", 0.1 + 0.2, 1)]
    (found,), _ = Scoring(read_signals([{"ifd": {"weight": 0.3}}]), rows).scores([draft("a-x")])
    assert (found.score, found.signals) == (0.1 + 0.2, "ifd")


def test_a_draft_that_a_signal_says_nothing_of_has_no_score_of_any_student():
    drafts = [draft("a-x"), draft("a-y"), draft("b-x")]
    rows = [
        measure(signal, name, 0.5, student=student)
        for signal, student, names in (
            ("answers", "s", "a-x a-y b-x"), ("ifd", "s", "a-x a-y"),
            ("answers", "t", "a-x a-y b-x"), ("ifd", "t", "a-x"),
        )
        for name in names.split()
    ]  # fmt: skip
    scores, dropped = Scoring(read_signals(["answers", "ifd"]), rows).scores(drafts)
    assert [(one.student, one.draft_id) for one in scores] == [("s", "a-x"), ("t", "a-x")]
    assert [(one.stage, one.reason, one.id) for one in dropped] == [
        ("probe", "no_ifd", "a-y"),
        ("probe", "no_ifd", "b-x"),
    ]
    # So pairing, which wants every student's score of a draft, has nothing to complain of.
    assert preference_scores(scores, {"s": 1.0, "t": 1.0}) == {"a-x": 0.5}
    with pytest.raises(DataError, match=r"Not one of 3 drafts has a score \(no_ifd\)"):
        Scoring(read_signals(["answers", "ifd"]), [row for row in rows if row.signal == "answers"]).scores(drafts)


def test_signals_of_questions_make_s_q_apart(tmp_path):
    drafts = [draft("a-x"), draft("b-x")]
    signals = read_signals(["answers", {"frontier": {"weight": 2}}])
    rows = [measure("answers", one, 0.25, student=student) for one in ("a-x", "b-x") for student in ("s", "t")]
    rows += [
        measure("frontier", name, value, 8, 0.0, 1.0, student, "question")
        for name, student, value in (("a", "s", 1.0), ("b", "s", 0.5), ("a", "t", 0.4))
    ]
    scoring = Scoring(signals, rows)
    scores, _ = scoring.scores([drafts[0]])
    # s_r is the paper's, whatever s_q is.
    assert [(one.draft_id, one.score, one.signals) for one in scores if one.student == "s"] == [("a-x", 0.25, "")]
    assert scoring.questions() == [replace(row, signal="frontier") for row in rows if row.of == "question"]
    write_rows(tmp_path / QUESTIONS, scoring.questions())
    file = tmp_path / "scores.jsonl"
    assert question_preferences(file, {"s": 3.0, "t": 1.0}) == {"a": pytest.approx(0.85)}
    assert question_preferences(file, {}) == {"a": pytest.approx(0.7)}
    assert question_preferences(tmp_path / "elsewhere" / "scores.jsonl", {}) == {}


class Own:
    """A user's own signal; tests change what it says."""

    Settings: ClassVar[type[Block]] = NoSettings
    costs = "nothing"
    version = 1
    of = "draft"
    says: ClassVar = staticmethod(lambda drafts, evidence: iter(()))

    def __init__(self, settings):
        pass

    def calls(self, sizes):
        return ()

    def measure(self, task, drafts, preference_set, evidence, asking):
        return self.says(drafts, evidence)


OWN = "tests.unit.test_scoring:Own"


class Plain(Renderer):
    """Renders as it stands, with no tokenizer behind it."""

    style, thought, end_of_reply = "plain", None, "[end]"

    def __init__(self):
        pass

    def prompt(self, text, prefill=""):
        return text + prefill

    asking = prompt

    def part_of_reply(self, text, begun=""):
        return text

    def said(self, text):
        return text


def student(path, engine=None, name="s"):
    return Model(name, {"name": name}, Plain(), lambda: engine or AtOnce(), RequestCache(path), 3, 10.0)


def nobody():
    raise AssertionError("the teacher isn't asked")


def scored(tmp_path, entries, students=None, drafts=9, questions=5):
    """Stage 3 by these signals: the files that it would write, by name, and the counts."""
    some, chosen = made(drafts, questions)
    settings = ProbeArgs()
    asking = ModelAsking(students or [student(tmp_path / "c.sqlite")], nobody, settings, 64, 7)
    files, counts, _ = measure_all(
        Given([TASK], some, chosen, []), Scoring(read_signals(entries)), asking, partial(probe, settings=settings),
        lambda rows: write_rows(tmp_path / "probes.jsonl", rows), lambda name: tmp_path / name,
    )  # fmt: skip
    for path, content in files.items():
        if not isinstance(content, str):
            write_rows(path, content)
    return {path.name: content for path, content in files.items()}, {one.what: one for one in counts}


def test_the_papers_score_by_this_way_is_the_papers_score(tmp_path):
    some, chosen = made(9, 5)
    rows = list(probe(TASK, some, chosen, student(tmp_path / "other.sqlite"), ProbeArgs()))
    from arte_plugin.stages.probing import Tally

    tally = Tally()
    list(tally.counted(rows))
    files, counts = scored(tmp_path, ["answers"])
    assert read_rows(tmp_path / "probes.jsonl", Probe) == rows
    assert [json.dumps(as_json(one)) for one in files["scores.jsonl"]] == [
        json.dumps(as_json(one)) for one in tally.scores(some)
    ]
    assert set(files) == {"scores.jsonl", "readable.md"} and list(counts) == ["probes", "scores"]


def test_answers_and_agreement_from_the_same_probes(tmp_path):
    alone, _ = scored(tmp_path, ["answers"])
    one = student(tmp_path / "c.sqlite", engine=object())
    files, counts = scored(tmp_path, ["answers", "agreement"], [one])
    assert one.usage.asked == 0, "agreement costs nothing, and the probes are in the cache"
    assert {row.draft_id: row.score for row in files["scores.jsonl"]} == {
        # Every draft's answer is its target.
        row.draft_id: pytest.approx((row.score + 1) / 2) for row in alone["scores.jsonl"]
    }  # fmt: skip
    assert {row.signal for row in files[MEASURES]} == {"answers", "agreement"} and len(files[MEASURES]) == 18
    assert counts["measures"].note == "9 answers, 9 agreement" and files["dropped.jsonl"] == []
    assert (counts["scores"].made, counts["scores"].kept) == (9, 9)
    assert list(counts) == ["probes", "measures", "scores"]


def test_without_a_signal_that_reads_them_no_probe_is_made(tmp_path):
    one = student(tmp_path / "none.sqlite", engine=object())
    files, counts = scored(tmp_path, ["format_length"], [one])
    assert one.usage.requests == 0 and "probes" not in counts
    assert not (tmp_path / "probes.jsonl").exists()
    assert {row.signals for row in files["scores.jsonl"]} == {"format_length"}


def test_attempts_are_rows_and_every_student_makes_its_own(tmp_path):
    students = [student(tmp_path / "c.sqlite", name=name) for name in ("s", "t")]
    files, counts = scored(tmp_path, ["format_length", {"frontier": {"samples": 2}}], students)
    attempts = read_rows(tmp_path / "attempts.jsonl", Attempt)
    assert len(attempts) == 2 * 9 * 2 == counts["attempts"].kept and {one.who for one in attempts} == {"s", "t"}
    assert len({one.attempt_id for one in attempts}) == len(attempts)
    assert [row.student for row in files[QUESTIONS]] == ["s"] * 9 + ["t"] * 9
    rates = {row.id: row.raw for row in files[QUESTIONS] if row.student == "t"}
    for name, rate in rates.items():
        right = [one.outcome == "correct" for one in attempts if (one.who, one.question_id) == ("t", name)]
        assert rate == sum(right) / 2
    # One engine at a time, and both are let go.
    assert [one._engine for one in students] == [None, None]


def test_ranks_share_what_signals_ask_and_measure_the_same(tmp_path):
    entries = ["answers", "neighbours", {"frontier": {"samples": 3}}]
    alone = student(tmp_path / "alone.sqlite")
    files, _ = scored(tmp_path, entries, [alone])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, tmp_path, json.dumps(entries)],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [json.loads(rank.communicate(timeout=300)[0]) for rank in ranks]
    rows = [repr(files[name]) for name in (MEASURES, QUESTIONS, "attempts.jsonl", "scores.jsonl")]
    assert [one["rows"] for one in told] == [rows, rows]
    assert sum(one["asked"] for one in told) == alone.usage.asked and all(one["asked"] for one in told)


RANK = """
import json, os, sys
from pathlib import Path
from tests.unit.test_scoring import MEASURES, QUESTIONS, scored, student

one = student(Path(sys.argv[1]) / "together.sqlite")
own = Path(sys.argv[1]) / os.environ["RANK"]
own.mkdir()
files, _ = scored(own, json.loads(sys.argv[2]), [one])
rows = [repr(files[name]) for name in (MEASURES, QUESTIONS, "attempts.jsonl", "scores.jsonl")]
print(json.dumps({"rows": rows, "asked": one.usage.asked}))
"""


@pytest.mark.parametrize(
    ("says", "error", "match"),
    [
        (lambda d, e: [measure("x", d[0].draft_id, 1.5)], DataError, "values are from 0 to 1"),
        (lambda d, e: [measure("x", d[0].draft_id, float("nan"))], DataError, "values are from 0 to 1"),
        (lambda d, e: [measure("x", "nobody", 0.5)], DataError, "there is no draft of that id"),
        (lambda d, e: [measure("x", d[0].draft_id, 0.5)] * 2, DataError, "has been measured already"),
        (lambda d, e: [measure("x", "q1", 0.5, of="question")], DataError, r"its class says `of = 'draft'`"),
        (lambda d, e: list(e.probes()), ConfigError, r"write `probes = True` there"),
        (lambda d, e: [], DataError, r"Not one of 9 drafts has a score \(no_tests"),
    ],
)
def test_what_a_users_own_signal_gets_wrong_is_said(tmp_path, monkeypatch, says, error, match):
    monkeypatch.setattr(Own, "says", staticmethod(says))
    with pytest.raises(error, match=match):
        scored(tmp_path, ["answers", OWN])


def test_a_users_own_signal_reads_the_probes_if_it_says_so(tmp_path, monkeypatch):
    def says(drafts, evidence):
        rows = list(evidence.probes())
        assert rows == list(evidence.probes()) and len(rows) == 45
        return [measure("x", one.draft_id, 0.5, student="whoever") for one in drafts]

    monkeypatch.setattr(Own, "says", staticmethod(says))
    monkeypatch.setattr(Own, "probes", True, raising=False)
    files, counts = scored(tmp_path, [OWN])
    assert counts["probes"].kept == 45
    assert {(row.signal, row.student) for row in files[MEASURES]} == {(OWN, "s")}


def test_of_scores_by_other_signals_no_chance_is_told(tmp_path):
    drafts, probes, scores = probed(by_technique)
    file = tmp_path / "scores.jsonl"
    write_rows(tmp_path / "probes.jsonl", probes)
    assert chance_not_known(scores, file) == {} and read_cells(file, scores)
    mixed = [replace(row, signals="answers, agreement") for row in scores]
    assert read_cells(file, mixed) == {}, "the probes made only a part of them"
    unknown = chance_not_known(mixed, file)
    scored = preference_scores(mixed, {})
    report = gap_report(drafts, scored, read_cells(file, mixed), {}, [], 0.25, 1, unknown=unknown)
    said = "chance isn't known for scores by answers, agreement"
    assert {report["sums"][level]["told"] for level in ("question", "rationale")} == {said}
    assert (
        gap_note(report, "rationale") == said and like_chance(report) == "" and f"C{said[1:]}." in gap_remarks(report)
    )
    with pytest.raises(DataError, match=r"min_probability.*answers, agreement"):
        shrink(drafts, mixed, {}, {})
    # Question scores of their own: of the rationales chance is told as ever.
    asked = [
        Measure("frontier", "question", one, "sums", "s", 0.5, 0.5, 8, 0.0, 1.0)
        for one in {d.question_id for d in drafts}
    ]
    write_rows(tmp_path / "questions.jsonl", asked)
    unknown = chance_not_known(scores, file)
    report = gap_report(drafts, scored, read_cells(file, scores), {}, [], 0.25, 1, unknown=unknown)
    assert report["sums"]["rationale"]["p"] == 0.001
    assert report["sums"]["question"]["told"] == "chance isn't known for question scores by frontier"
