"""Stage 5 from the outside."""

import pytest

from arte_plugin import versions
from arte_plugin.training import align

INPUTS = versions.stage_inputs(
    "align", {"pairs": "p", "teacher": "t", "prompt_style": "chat", "rendering": [{"date": "a"}], "training": "x"}
)


@pytest.mark.parametrize(
    "change",
    [{"pairs": "q"}, {"teacher": "u"}, {"prompt_style": "plain"}, {"rendering": [{"date": "b"}]}],
    ids=lambda change: next(iter(change)),
)
def test_pairs_that_are_rendered_otherwise_are_prepared_anew(change):
    assert align.prepared_folder({**INPUTS, **change}, "tok") != align.prepared_folder(INPUTS, "tok")


def test_so_they_are_for_another_tokenizer_and_another_version_of_the_rendering(monkeypatch):
    name = align.prepared_folder(INPUTS, "tok")
    assert align.prepared_folder(INPUTS, "another") != name
    monkeypatch.setattr(versions, "RENDERING", versions.RENDERING + 1)
    assert align.prepared_folder(versions.stage_inputs("align", {**INPUTS}), "tok") != name


def test_how_they_are_trained_on_has_no_say():
    assert align.prepared_folder({**INPUTS, "training": "y"}, "tok") == align.prepared_folder(INPUTS, "tok")
