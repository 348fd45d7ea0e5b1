"""What a run folder holds, as strategies read it, and the tables that `arte status --diagnostics` makes of it."""

import json
import shutil
from dataclasses import asdict

import pytest
import yaml
from click.testing import CliRunner

from arte_plugin.cli import cli
from arte_plugin.errors import StageError
from arte_plugin.rows import Dropped, Measure, Probe, Result, Score, write_rows
from arte_plugin.run.evidence import NobodyAsked, RunFiles
from arte_plugin.run.manifest import Manifest
from tests.diagnosed import a_draft, a_pair, a_task, an_example


def probe(task, draft, outcome="correct"):
    return Probe(draft, "p0", task, "small", "", "", outcome)


@pytest.fixture
def folder(tmp_path):
    """A run of two tasks, whose probes come student by student."""
    write_rows(tmp_path / "01-elicit/drafts.jsonl", [a_draft("1?", "so"), a_draft("2?", "so", task="more")])
    write_rows(tmp_path / "01-elicit/dropped.jsonl", [Dropped("elicit", "duplicate", "sums", "x", "1?")])
    rows = [probe("sums", "a"), probe("sums", "b"), probe("more", "c"), probe("sums", "d"), probe("more", "ä\u2028e")]
    write_rows(tmp_path / "03-probe/probes.jsonl", rows)
    write_rows(tmp_path / "04-pair/pairs.jsonl", [a_pair("long", "short")])
    write_rows(tmp_path / "06-regenerate/tailored.jsonl", [an_example("3?"), an_example("4?", task="more")])
    write_rows(tmp_path / "06-regenerate/mine.jsonl", [an_example("5?")])
    return tmp_path


DONE = ("elicit", "probe", "pair", "regenerate")


def test_rows_come_by_task(folder):
    known = RunFiles(folder, DONE, ["arte", "mine"]).evidence([a_task(), a_task("more")])
    assert [len(known[name].drafts) for name in ("sums", "more")] == [1, 1]
    assert [row.draft_id for row in known["sums"].probes()] == ["a", "b", "d"]
    # Each call begins anew.
    for _ in range(2):
        assert [row.draft_id for row in known["more"].probes()] == ["c", "ä\u2028e"]
    assert {arm: [row.question for row in rows] for arm, rows in known["sums"].examples.items()} == {
        "arte": ["3?"], "mine": ["5?"]
    }  # fmt: skip
    assert known["more"].examples.keys() == {"arte"}
    assert known["sums"].dropped[0].reason == "duplicate" and not known["more"].dropped and known["sums"].pairs


def test_scores_are_the_students_weighted_mean_and_measures_are_there(folder):
    draft = a_draft("1?", "so")
    rows = [Score(draft.draft_id, draft.question_id, "sums", who, value, 8, 0.0, 1.0, 0) for who, value in
            {"big": 0.0, "small": 1.0}.items()]  # fmt: skip
    measures = [
        Measure("ifd", "draft", draft.draft_id, task, "big", 0.5, 0.5, 1, 0.5, 0.5) for task in ("sums", "more")
    ]
    write_rows(folder / "03-probe/scores.jsonl", rows)
    write_rows(folder / "03-probe/measures.jsonl", measures)
    known = RunFiles(folder, DONE, [], weights={"big": 3.0, "small": 1.0}).evidence([a_task()])["sums"]
    assert known.scores == {draft.draft_id: 0.25} and known.measures == measures[:1]
    assert RunFiles(folder, DONE, []).evidence([a_task()])["sums"].scores == {draft.draft_id: 0.5}


def test_what_is_of_an_earlier_config_is_not_there(folder):
    known = RunFiles(folder, ["elicit"], ["arte"]).evidence([a_task()])["sums"]
    assert known.drafts and not known.pairs and not known.examples and not list(known.probes())


def test_drafts_may_lie_elsewhere(folder, tmp_path):
    there = tmp_path / "drafts.jsonl"
    write_rows(there, [a_draft("7?", "so"), a_draft("8?", "so")])
    assert len(RunFiles(folder, DONE, [], drafts=there).evidence([a_task()])["sums"].drafts) == 2


def test_nobody_is_asked_on_demand():
    asking = NobodyAsked(3)
    assert asking.rng("a", "b").random() == NobodyAsked(3).rng("a", "b").random() != asking.rng("a").random()
    with pytest.raises(StageError, match=r"name it in `arte.diagnostics`"):
        _ = asking.teacher


def test_status_shows_the_tables_of_a_run(folder, tmp_path):
    questions = [{"question": f"{i} + {i}", "answer": str(2 * i)} for i in range(40)]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in questions))
    run = tmp_path / "out"
    for part in [one for one in folder.iterdir() if one.is_dir()]:
        shutil.copytree(part, run / "arte" / part.name)
    result = Result("sums", "", "base", "small", 0, 10, 2, 5, 0.2, 0.06, 0.51)
    report = {"format": 2, "results": [asdict(result)], "comparisons": [], "alignment": {}}
    (run / "arte/08-evaluate").mkdir()
    (run / "arte/08-evaluate/results.json").write_text(json.dumps(report))
    for stage in (*DONE, "evaluate"):
        Manifest(run / "arte/manifest.json").record(stage, {}, [], {}, 1.0)
    config = {
        "base_model": "nowhere", "rl": "dpo", "output_dir": str(run), "plugins": ["arte_plugin.ArtePlugin"],
        "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
        "arte": {
            "student": {"base_model": "nowhere"},
            "tasks": [{"name": "sums", "description": "Add.", "answer": "number", "questions": {"path": str(data)},
                       "seed_questions": 3, "validation_questions": 10}],
        },
    }  # fmt: skip
    (tmp_path / "arte.yaml").write_text(yaml.safe_dump(config))
    asked = ["status", str(tmp_path / "arte.yaml"), "--diagnostics"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "Form and content" in done.output and "20.0 % (5.7 to 51.0)" in done.output
    assert "Length of what is chosen" in done.output and "nothing to show yet" in done.output
    assert "Hollowing" not in done.output
