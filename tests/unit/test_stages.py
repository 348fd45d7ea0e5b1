"""A stage is one object: whatever speaks of stages reads from it, and none can be added to one place only."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from click.testing import CliRunner

from arte_plugin import ranks, versions
from arte_plugin.cli import cli
from arte_plugin.config.arte import ArteArgs
from arte_plugin.loop import loop
from arte_plugin.plan import totals
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import write_text
from arte_plugin.run import earlier_config
from arte_plugin.run.folder import RunFolder
from arte_plugin.run.manifest import Count, Manifest, hash_file
from arte_plugin.show import summary
from arte_plugin.stages import STAGES, order
from arte_plugin.stages.order import AFTER_TRAINING, BEFORE_TRAINING, IN_ORDER
from arte_plugin.stages.stage import DRAFTING, Stage

MAIN = [stage.name for stage in IN_ORDER if "/" not in stage.name]
STUDENT = {"base_model": "hub/student"}
TASK = {"name": "sums", "description": "Add.", "questions": {"path": "hub/data"}}
AFTER_THE_CHECK = ("regenerate", "sft", "evaluate")
#: What a run can have and has not by default.
EVERYTHING = {
    "elicit": {"worked_examples": True}, "preference_set": {"consistency_questions": 2}, "diagnostics": ["hollowing"],
    "student": {**STUDENT, "dpo": {"pairing": "right_over_wrong"}},
}  # fmt: skip
RARE = [stage.name for stage in IN_ORDER if stage.rare]
#: What computes, or trains.
ASKS_NOBODY = {"pair", "align", "sft"}
SIZES = Sizes(10, 4, 20, 8, [0, 1], 10, test=5, seeds=3)


def args(**changes) -> ArteArgs:
    return ArteArgs.model_validate({"student": STUDENT, "tasks": [TASK], **changes})


def test_each_name_has_one_object_and_they_come_in_that_order():
    assert list(STAGES) == MAIN
    assert len({stage.name for stage in IN_ORDER}) == len(IN_ORDER)
    # One that adds to another's folder comes right behind it.
    names = [stage.name for stage in IN_ORDER]
    assert [name.partition("/")[0] for name in names] == sorted(
        (name.partition("/")[0] for name in names), key=list(STAGES).index
    )
    assert [*BEFORE_TRAINING, *AFTER_TRAINING] == [stage for stage in IN_ORDER if stage.name != "align"]


def test_each_has_a_version_and_is_behind_what_comes_before_it():
    assert {*versions.STAGES} == {stage.name for stage in IN_ORDER} | {"rounds"}
    for place, stage in enumerate(IN_ORDER):
        assert stage.version == versions.STAGES[stage.name]
        before = {other.name for other in IN_ORDER[:place]}
        assert {*stage.behind} <= before
        writers = {name for name in STAGES if name in before}
        assert {of for of, _ in stage.reads.values()} <= writers, stage.name


def test_what_is_read_is_what_another_writes():
    written = {(stage.name.partition("/")[0], name) for stage in IN_ORDER for name in stage.writes}
    assert {file for stage in IN_ORDER for file in stage.reads.values()} <= written


def test_the_plan_has_the_calls_of_every_stage_that_asks_a_model():
    counting = {stage.name for stage in IN_ORDER if type(stage).calls is not Stage.calls}
    assert counting == {stage.name for stage in IN_ORDER} - ASKS_NOBODY
    assert not any(type(stage).models is not Stage.models for stage in IN_ORDER if stage.name in ASKS_NOBODY)
    assert {
        stage.name for stage in IN_ORDER if any(one.calls for one in stage.calls(args(**EVERYTHING), SIZES))
    } == counting


class Extra(Stage):
    """One more, behind the pairs."""

    name = "extra"
    what = "something more"
    reads: ClassVar = {"pairs": ("pair", "pairs.jsonl")}
    behind = ("pair",)
    writes = ("extra.txt",)

    def calls(self, args, task):
        yield Work("extra", "extra calls", "teacher", task.questions, 1, 1, 1)

    def inputs(self, run, models):
        return {"pairs": hash_file(self.read(run, "pairs"))}

    def work(self, run, models):
        return {self.file(run, "extra.txt"): "more\n"}, [Count("lines", 1, 1)], {}

    def shown(self, folder):
        return f"\nextra says {(folder / self.folder / 'extra.txt').read_text()}"


@pytest.fixture
def with_extra(monkeypatch):
    """A stage more: a line in `STAGES`, its version, its object."""
    names = [*STAGES]
    found = {name: STAGES[name] for name in names[:4]} | {"extra": "04b-extra"} | {n: STAGES[n] for n in names[4:]}
    for name in names:
        monkeypatch.delitem(STAGES, name)
    for name, folder in found.items():
        monkeypatch.setitem(STAGES, name, folder)
    monkeypatch.setitem(versions.STAGES, "extra", 1)
    stages = tuple(sorted([*IN_ORDER, Extra()], key=order._place))
    for module in (loop, totals, summary, earlier_config):
        monkeypatch.setattr(module, "IN_ORDER", stages)
    monkeypatch.setattr(loop, "BEFORE_TRAINING", stages[: [stage.name for stage in stages].index("align")])
    return stages


def test_a_stage_more_is_run_and_planned(with_extra, monkeypatch):
    planned = totals.works(args(), [SIZES])
    assert [one.calls for one in planned if one.stage == "extra"] == [10]
    done = []
    for kind in {type(stage) for stage in with_extra}:
        monkeypatch.setattr(kind, "do", lambda stage, run: done.append(stage.name))
    run = SimpleNamespace(args=args(pair={"drafts": "d", "scores": "s"}), makes_drafts=False)
    loop._walk(run, loop.BEFORE_TRAINING, "align")
    assert done == ["pair", "extra"]


def test_its_table_is_shown_until_what_it_read_is_another(with_extra, tmp_path):
    folder = RunFolder(tmp_path, 10.0)
    folder.file("pair", "").mkdir()
    write_text(folder.file("pair", "pairs.jsonl"), "{}\n")
    run = SimpleNamespace(args=args(), out=folder)
    Extra().do(run)
    Extra().do(run)
    assert folder.file("extra", "extra.txt").read_text() == "more\n"
    shown = summary.summary(tmp_path, args())
    assert re.search(r"^extra +lines +1 +1", shown, re.M) and "extra says more" in shown
    write_text(folder.file("pair", "pairs.jsonl"), "{}\n{}\n")
    shown = summary.summary(tmp_path, args())
    assert "of an earlier config" in shown and "extra says" not in shown


def test_one_without_a_place_in_the_order_is_refused():
    with pytest.raises(ValueError, match="extra"):
        order._place(Extra())


def test_status_names_the_stages_that_the_loop_has(tmp_path):
    Manifest(tmp_path / "manifest.json").record("elicit", {}, [Count("drafts", 1, 1)], {}, 0.0)
    for asked, shown in ((EVERYTHING, MAIN), ({}, [name for name in MAIN if name not in RARE])):
        lines = summary.summary(tmp_path, args(**asked)).splitlines()
        assert [line.split()[0] for line in lines if line.split() and line.split()[0] in STAGES] == shown


def test_the_command_line_has_a_command_for_each():
    listed = CliRunner().invoke(cli, ["--help"]).output
    assert all(re.search(rf"^  {name} ", listed, re.M) for name in MAIN)


@pytest.mark.parametrize("last", MAIN)
def test_the_loop_goes_up_to_and_with_the_stage_that_is_asked_for(monkeypatch, last):
    """With all that a run can have, on the first rank; what is named after a stage belongs to it."""
    done = []
    monkeypatch.setattr(ranks, "is_first", lambda: True)
    for kind in {type(stage) for stage in IN_ORDER}:
        monkeypatch.setattr(kind, "do", lambda stage, run: done.append(stage.name))
    run = SimpleNamespace(args=args(**EVERYTHING), makes_drafts=True)
    loop._walk(run, BEFORE_TRAINING, last)
    if MAIN.index(last) > MAIN.index("align"):
        loop._walk(run, AFTER_TRAINING, last)
    wanted = [stage.name for stage in IN_ORDER if MAIN.index(stage.name.partition("/")[0]) <= MAIN.index(last)]
    assert done == [name for name in wanted if name != "align"]


@pytest.mark.parametrize(
    ("changes", "makes_drafts", "has"),
    [
        ({}, True, {*DRAFTING, "pair", "align-check", *AFTER_THE_CHECK}),
        ({"align": {"check": False}}, True, {*DRAFTING, "pair", *AFTER_THE_CHECK}),
        ({"pair": {"drafts": "d", "scores": "s"}}, False, {"pair", "align-check", *AFTER_THE_CHECK}),
        ({"from_run": "out"}, False, {*AFTER_THE_CHECK}),
        ({"from_run": "out", "diagnostics": ["format"]}, False, {*AFTER_THE_CHECK, "diagnose"}),
        ({"from_run": "out"}, True, {*DRAFTING, *AFTER_THE_CHECK}),
    ],
)  # fmt: skip
def test_which_stages_a_run_has(changes, makes_drafts, has):
    assert {one.name for one in IN_ORDER if one.asked(args(**changes), makes_drafts)} - {"align"} == has


def test_other_ranks_leave_to_the_first_what_takes_all_gpus(monkeypatch):
    done = []
    monkeypatch.setattr(ranks, "is_first", lambda: False)
    for kind in {type(stage) for stage in AFTER_TRAINING}:
        monkeypatch.setattr(kind, "do", lambda stage, run: done.append(stage.name))
    loop._walk(SimpleNamespace(args=args(), makes_drafts=True), AFTER_TRAINING, "evaluate")
    assert done == ["align-check", "regenerate"]


def test_to_know_the_stages_loads_nothing_heavy():
    """`arte plan` and `arte status` do so before they have anything to say."""
    heavy = ("torch", "transformers", "axolotl", "datasets", "lm_eval", "numpy", "scipy")
    program = f"import sys, arte_plugin.stages.order; print(*sorted(set({heavy!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == []


def test_task_files_of_earlier_runs_find_what_they_name():
    from arte_plugin.stages.evaluate import judge_response, read_questions

    assert judge_response({"answer_type": "number", "target": "2"}, ["<ans>2</ans>"])["accuracy"] == 1.0
    assert callable(read_questions)
    with pytest.raises(ImportError):
        from arte_plugin.stages.evaluate import no_such_name  # noqa: F401


def test_readme_has_them_all():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for name, folder in STAGES.items():
        assert (f"`{name}`" in readme and f"`{folder}/" in readme) or name == "align"
