"""Drafts as respondents: which are drawn, and what their rows are. No model."""

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from arte_plugin.config.arte import ArteArgs
from arte_plugin.rows import Probe
from arte_plugin.stages import pilot as stage
from arte_plugin.stages.pilot import drawn
from arte_plugin.stages.respondents import respondents
from tests.unit.test_pair import draft

DRAFTS = [draft(f"q{i}", f"t{j}") for i in range(10) for j in range(4)]


def args(**preference_set):
    return ArteArgs.model_validate(
        {
            "student": {"base_model": "s"},
            "tasks": [{"name": "t", "description": "d", "questions": {"path": "unread.jsonl"}}],
            "preference_set": preference_set,
        }
    )


def test_the_pilot_is_spread_over_questions_and_drawn_by_seed():
    some = drawn(DRAFTS, 8, 1)
    assert len({one.question_id for one in some}) == 8
    assert some == drawn(DRAFTS, 8, 1) != drawn(DRAFTS, 8, 2)
    assert some == [one for one in DRAFTS if one in some], "in the order of the drafts"
    twelve = drawn(DRAFTS, 12, 1)
    assert len({one.draft_id for one in twelve}) == 12 and len({one.question_id for one in twelve}) == 10
    assert len({one.technique for one in drawn(DRAFTS, 10, 3)}) > 1
    assert drawn(DRAFTS[:5], 8, 1) == DRAFTS[:5]


def test_how_a_reply_ended_stays_with_it(monkeypatch):
    row = Probe("d", "v1", "t", "s", "and so", "", "unparsed", finish="length", new_tokens=64, asked_again=True)
    monkeypatch.setattr(stage, "probe", lambda *given: [row])
    [made] = stage.pilot(SimpleNamespace(validation=[]), [], None, None)
    assert (made.finish, made.new_tokens, made.asked_again) == ("length", 64, True)


def test_drafts_take_the_place_of_the_default_respondents_only():
    assert [one.name for one in respondents(args())] == ["s"]
    assert respondents(args(pilot_drafts=30)) == []
    assert [one.name for one in respondents(args(pilot_drafts=30, respondents=[{"base_model": "m"}]))] == ["m"]


def test_too_few_drafts_are_refused():
    with pytest.raises(ValidationError, match="3 drafts can't tell questions apart"):
        args(pilot_drafts=3)
