"""`manifest.json`: what a run that goes on reads from it."""

import json
from types import SimpleNamespace

import pytest

from arte_plugin.loop import loop
from arte_plugin.run import manifest
from arte_plugin.run.manifest import Count, Manifest, upgraded


@pytest.fixture
def done(tmp_path):
    """Two finished stages."""
    made = Manifest(tmp_path / "manifest.json")
    for name in ("elicit", "probe"):
        made.record(name, {"seed": 1}, [Count("rows", 2, 2)], {}, 1.0)
    return made


def set_versions(done, stage, **versions):
    content = json.loads(done.path.read_text())
    content["stages"][stage]["versions"] |= {name.replace("_", "-"): version for name, version in versions.items()}
    done.path.write_text(json.dumps(content))


def test_the_same_versions_are_nothing_to_speak_of(done):
    assert upgraded(done.stages()) == ""
    set_versions(done, "probe", torch="1.0")
    assert upgraded(done.stages()) == "", "neither is what decides no row by itself"


def test_other_versions_are_told_with_their_stages(done):
    now = manifest._versions()
    for stage in ("elicit", "probe"):
        set_versions(done, stage, transformers="4.0")
    set_versions(done, "probe", arte_plugin="0.0.1")
    assert upgraded(done.stages()) == (
        f"transformers 4.0 (installed: {now['transformers']}): elicit, probe; "
        f"arte-plugin 0.0.1 (installed: {now['arte-plugin']}): probe"
    )
    assert all(done.finished(stage, manifest.hash_of({"seed": 1})) for stage in ("elicit", "probe")), "no redo"


def test_a_run_says_so_once(done, tmp_path, monkeypatch, caplog):
    set_versions(done, "elicit", axolotl="0.1")
    monkeypatch.setattr(loop.memory, "settle", lambda: None)
    monkeypatch.setattr(loop.merging, "start_from_whole_teacher", lambda run: None)
    monkeypatch.setattr(loop, "special_string_lines", lambda asked, tasks: [])
    monkeypatch.setattr(loop, "_walk", lambda run, stages, last: None)
    out = SimpleNamespace(manifest=done, close=lambda: None)
    cache = SimpleNamespace(close=lambda: None)
    run = SimpleNamespace(cache=cache, out=out, chosen=None, source=None, asked=[], tasks=[])
    with caplog.at_level("WARNING"):
        loop.until(run, "pair")
    [said] = caplog.messages
    assert "axolotl 0.1 (installed: " in said and "what is done is kept" in said


def test_amended_and_forgotten(done):
    done.amend("elicit", {"more": 1})
    assert done.stages()["elicit"].result == {"more": 1}
    done.forget("elicit")
    done.forget("never done")
    assert list(done.stages()) == ["probe"]
