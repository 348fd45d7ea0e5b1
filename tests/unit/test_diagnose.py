"""The stage of the diagnostics: what it depends on, what it asks, and what the YAML may name."""

import json
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.diagnostics import DIAGNOSTICS
from arte_plugin.plan.work import Sizes
from arte_plugin.rows import write_rows
from arte_plugin.run.folder import RunFolder
from arte_plugin.stages.diagnose import Diagnose
from arte_plugin.stages.diagnosing import asks, free
from tests.diagnosed import a_draft, a_task, an_example

SIZES = Sizes(10, 4, 40, 8, [0, 1], 10)


def args(*diagnostics, **more):
    task = {"name": "sums", "description": "Add.", "questions": {"path": "hub/data"}}
    return ArteArgs.model_validate(
        {"student": {"base_model": "hub/student"}, "tasks": [task], "diagnostics": list(diagnostics), **more}
    )


def a_run(folder, *diagnostics):
    """A run whose stages 1 and 6 are done."""
    out = RunFolder(folder, 1.0)
    write_rows(out.file("elicit", "drafts.jsonl"), [a_draft(f"{i}?", f"so {i} <ans>2</ans>") for i in range(5)])
    write_rows(out.file("regenerate", "tailored.jsonl"), [an_example(f"{i}!", f"{i} <ans>2</ans>") for i in range(5)])
    for stage in ("elicit", "regenerate"):
        out.manifest.record(stage, {}, [], {}, 0.0)
    return SimpleNamespace(
        args=args(*diagnostics, arms=["arte"]), out=out, tasks=[a_task()], source=None, makes_drafts=True, weights={},
        task_inputs=lambda: [{"name": "sums"}], scored_drafts=lambda: (out.file("elicit", "drafts.jsonl"), None),
        examples_file=lambda arm: out.file("regenerate", "tailored.jsonl"),
    )  # fmt: skip


def test_by_default_there_is_no_such_stage():
    assert not Diagnose().asked(args(), True) and Diagnose().asked(args("format"), True)


def test_a_later_round_does_not_depend_on_what_diagnostics_are():
    assert "diagnose" not in versions.stage_inputs("rounds/2", {})["versions"]["stage"]
    assert versions.stage_inputs("diagnose", {})["versions"]["stage"] == versions.STAGES["diagnose"]


def test_what_asks_nobody_is_free():
    assert [one.name for one in free()] == [name for name in DIAGNOSTICS if name != "hollowing"]
    assert [asks(one) for one in args("format", {"hacking": {"questions": 4}}, "hollowing").chosen_diagnostics] == [
        False, True, True
    ]  # fmt: skip


def test_what_two_ask_alike_is_asked_once():
    [work] = Diagnose().calls(args({"hacking": {"questions": 16}}, {"hollowing": {"questions": 20}}), SIZES)
    assert work.calls == 40
    assert not list(Diagnose().calls(args("format", "hacking"), SIZES))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["diversty"], "did you mean `diversity`?"),
        ([{"hollowing": {"question": 3}}], "`hollowing.question`: there is no such key; did you mean `questions`?"),
        (["hollowing", {"hollowing": {"questions": 3}}], "`hollowing` stands there twice"),
    ],
)
def test_what_is_wrong_in_the_yaml(entries, said):
    with pytest.raises(ValidationError) as error:
        args(*entries)
    assert said in str(error.value)


def test_tables_are_written_and_made_again_when_a_row_is_another(tmp_path):
    run = a_run(tmp_path, "format", "diversity", "alignment")
    Diagnose().do(run)
    record = run.out.manifest.stages()["diagnose"]
    assert record.counts[0].dropped == {"nothing_to_show": 1}
    report = json.loads((tmp_path / "09-diagnose/diagnostics.json").read_text())["diagnostics"]
    assert list(report) == ["format", "diversity", "alignment"] and report["format"]["rows"]
    assert all(len(row) == len(report["diversity"]["head"]) for row in report["diversity"]["rows"])
    text = (tmp_path / "09-diagnose/diagnostics.md").read_text()
    assert "## Form and content" in text and "Nothing to show." in text
    assert "09-diagnose/diagnostics.md" in Diagnose().shown(tmp_path)
    Diagnose().do(run)
    assert run.out.manifest.stages()["diagnose"].finished == record.finished
    assert not any(Diagnose().differences(record, tmp_path, {}, False))
    write_rows(run.out.file("elicit", "drafts.jsonl"), [a_draft("x?", "so <ans>2</ans>")])
    assert any(Diagnose().differences(record, tmp_path, {}, False))
    Diagnose().do(run)
    assert run.out.manifest.stages()["diagnose"].inputs_hash != record.inputs_hash


def test_a_seed_that_is_another_draws_others(tmp_path):
    run = a_run(tmp_path, "diversity")
    first = Diagnose().inputs(run, [])
    run.args = args("diversity", seed=1, arms=["arte"])
    assert Diagnose().inputs(run, []) != first
