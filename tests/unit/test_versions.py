"""Versions of the code that decides rows: raised where the rows of the same inputs change, and only there."""

import inspect

import pytest

from arte_plugin import versions
from arte_plugin.language import prompts
from arte_plugin.run.folder import RunFolder
from arte_plugin.stages import STAGES
from tests import behaviour


@pytest.mark.parametrize("name", behaviour.BEHAVIOUR)
def test_other_rows_of_the_same_inputs_come_with_another_version(name):
    version, digest = behaviour.committed()[name]
    now = behaviour.BEHAVIOUR[name][0]()
    if behaviour.digest(name) != digest:
        assert now != version, (
            f"The same inputs give other rows. If that is meant: set {name} to {version + 1} in "
            "arte_plugin/versions.py, then `python -m tests.behaviour`."
        )
    assert now == version and behaviour.digest(name) == digest, "Run `python -m tests.behaviour`."


def test_every_stage_has_a_version():
    assert set(STAGES) <= set(versions.STAGES)
    assert versions.stage_inputs("sft/unheard-of", {})["versions"] == versions.stage_inputs("sft", {})["versions"]


def test_all_that_prompts_has_to_say_is_in_the_wording():
    functions = {
        name
        for name, value in vars(prompts).items()
        if inspect.isfunction(value) and value.__module__ == prompts.__name__ and not name.startswith("_")
    }
    assert functions == set(versions.FIXED_INPUTS), "give versions.FIXED_INPUTS the arguments for it"


@pytest.mark.parametrize("name", ["STEP_BY_STEP", "ANSWER_FORMS", "RATIONALE_STOP", "_task"])
def test_another_word_is_another_wording(monkeypatch, name):
    before = versions.wording()
    other = {
        "STEP_BY_STEP": "Think.",
        "ANSWER_FORMS": {},
        "RATIONALE_STOP": ("</ans>",),
        "_task": lambda description, answer: description,
    }
    monkeypatch.setattr(prompts, name, other[name])
    assert versions.wording() != before


@pytest.mark.parametrize(
    ("part", "stages"),
    [
        ("READING", {*versions.STAGES} - {"pair", "align", "sft"}),
        ("RENDERING", set(versions.STAGES)),
    ],
)
def test_a_raised_part_makes_the_stages_anew_that_depend_on_it(monkeypatch, part, stages):
    before = {name: versions.stage_inputs(name, {}) for name in versions.STAGES}
    monkeypatch.setattr(versions, part, getattr(versions, part) + 1)
    assert {name for name in before if versions.stage_inputs(name, {}) != before[name]} == stages


def test_a_stage_of_an_older_version_is_done_again_and_one_of_this_version_is_not(tmp_path, monkeypatch):
    folder, made = RunFolder(tmp_path, 10.0), []

    def work():
        made.append(1)
        return {}, [], {}

    for _ in range(2):
        folder.stage("pair", {"drafts": "a"}, work)
    assert len(made) == 1
    monkeypatch.setitem(versions.STAGES, "pair", versions.STAGES["pair"] + 1)
    folder.stage("pair", {"drafts": "a"}, work)
    assert len(made) == 2


def test_an_engine_s_version_is_part_of_a_cached_answer_s_key(monkeypatch):
    assert versions.engine("transformers").partition("/")[0] == "transformers"
    before = versions.engine("server")
    monkeypatch.setitem(versions.ENGINES, "server", versions.ENGINES["server"] + 1)
    assert versions.engine("server") != before
