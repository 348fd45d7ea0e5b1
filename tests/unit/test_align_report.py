"""What comes of the check of the alignment: its verdict, whose it is, what may be required, what the training says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from arte_plugin.diagnostics.alignment import alignment_lines
from arte_plugin.errors import ConfigError, StageError
from arte_plugin.loop import loop
from arte_plugin.run.manifest import Manifest
from arte_plugin.show.alignment import (
    alignment_report,
    alignment_report_of_source,
    enter_teacher,
    remarks,
    require_change,
    verdict,
)
from arte_plugin.stages import before_after as stage
from arte_plugin.training.align import describe
from tests.unit.test_students import check


def report(changed: int, n: int = 40, replies: int = 10, liking=None, **more):
    rationales = stage.share(changed, n)
    return {
        "rationales": rationales,
        "replies": stage.share(replies, 10),
        "usable": {"n": n, "before": n, "after": n // 2},
        "rewards": {"held_out": {}, "trained": {}},
        "liking": liking or {"skipped": "no rationale changed"},
        "tasks": {"sums": {"rationales": rationales, "replies": stage.share(replies, 10), "liking": {}}},
        **more,
    }


def liked(low: float, difference: float, high: float):
    score = {"before": 0.4, "after": 0.4 + difference, "difference": difference, "low": low, "high": high}
    return {"questions": 40, "validation": [60], "score": score, "p": 0.2}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (report(0, replies=0), "no evidence that the teacher changed (0 of 40 rationales, 0 of 10 replies): raise"),
        (report(0, replies=3), "hardly any evidence that the teacher changed (0 of 40 rationales, 3 of 10 replies)"),
        (report(12, liking=liked(0.009, 0.041, 0.073)), "30 % of rationales changed, liked +4.1 points (+0.9 to +7.3)"),
        (
            report(12, liking=liked(-0.011, 0.004, 0.019)),
            "30 % of rationales changed, but nothing shows that the student likes them better: +0.4 points (-1.1 to",
        ),
        (
            report(12, liking=liked(-0.06, -0.04, -0.02)),
            "30 % of rationales changed, and the student likes them less: -4.0 points (-6.0 to -2.0)",
        ),
        (report(2, liking=liked(-0.01, 0.0, 0.01)), "only 5 % of rationales changed: raise the teacher's learning"),
        (
            report(12, liking={"skipped": "the preference set holds all validation questions"}),
            "30 % of rationales changed; not asked whether the student likes them (the preference set holds all",
        ),
        (report(0, n=0, tasks={"sums": {"skipped": "no usable question"}}), "not checked: no usable question"),
    ],
)  # fmt: skip
def test_verdict_says_it_in_one_line(found, said):
    assert verdict(found).startswith(said)
    assert "\n" not in verdict(found)


@pytest.mark.parametrize(("changed", "stops"), [(0, True), (3, True), (4, False), (40, False)])
def test_too_little_change_ends_the_run_on_request(changed, stops):
    found = report(changed, liking=liked(0.0, 0.0, 0.0))
    require_change(found, None)
    if not stops:
        return require_change(found, 0.1)
    with pytest.raises(StageError, match=rf"of 40 rationales the aligned teacher writes {changed} otherwise"):
        require_change(found, 0.1)


def test_nothing_checked_is_not_enough_change():
    found = report(0, n=0, tasks={"sums": {"skipped": "no usable question"}})
    with pytest.raises(StageError, match="not checked: no usable question"):
        require_change(found, 0.1)


def test_reward_accuracy_of_a_teacher_that_did_not_move_is_chance():
    still = [stage.Weighed(f"r-{i}", "sums", "rationale", "held_out", -9.0, -7.0, -9.0, -7.0) for i in range(10)]
    found = stage.rewards(still)["all"]
    assert (found["accuracy"], found["margin"]) == (0.5, 0.0)
    assert found["accuracy_low"] < 0.5 < found["accuracy_high"]
    moved = [stage.Weighed(f"q-{i}", "sums", "question", "held_out", 0, 0, 1.0 + i, 0.0) for i in range(3)]
    both = stage.rewards([*still, *moved])
    assert (both["question"]["n"], both["question"]["accuracy"], both["question"]["margin"]) == (3, 1.0, 2.0)
    # Student's t with two degrees of freedom, standard deviation 1.
    assert both["question"]["margin_high"] == pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3)
    assert stage.rewards([]) == {}


def test_several_students_count_by_their_weights():
    one, other = (stage.Answers(np.full((2, 3), a), np.full((2, 3), b)) for a, b in ((0.0, 1.0), (0.0, 0.0)))
    both = stage.mean_student([one, other], [3.0, 1.0])
    assert stage.liking([both], 1)["score"]["difference"] == pytest.approx(0.75)
    assert both.readable_before is None


def test_table_has_what_chance_gives_beside_every_figure():
    answers = stage.Answers(*(np.eye(4, 6) * k for k in (0.0, 1.0)), *(np.ones((4, 6)) for _ in range(2)))
    found = report(4, n=8, liking={**stage.liking([answers], 1), "students": {"s": stage.liking([answers], 1)}})
    rows = [stage.Weighed(f"r-{i}", "sums", "rationale", "held_out", 0, 0, 1.0, 0.0) for i in range(6)]
    found["rewards"] = {"held_out": stage.rewards(rows), "trained": {}, "none_held_out": ""}
    found = {"verdict": verdict(found), **json.loads(json.dumps(found))}
    lines = alignment_lines(found)
    assert {len(line) for line in lines} == {7}
    assert all(line[-1] for line in lines)
    by_name = {line[0].strip(): line for line in lines}
    assert by_name["rationales that changed"][1:6] == ["8", "", "", "50.0 %", "21.5 to 78.5"]
    assert by_name["rationales with an answer"][1:5] == ["8", "100.0 %", "50.0 %", "-50.0"]
    assert by_name["held-out pairs: chosen preferred"][-1] == "50 %"
    assert by_name["score s_r"][1:5] == ["4 x 6", "0.0 %", "16.7 %", "+16.7"]
    assert by_name["readable"][2:5] == ["100.0 %", "100.0 %", "+0.0"]
    assert remarks(found)[0].startswith("alignment: 50 % of rationales changed, ")


def test_a_check_of_an_earlier_teacher_is_not_shown(tmp_path, monkeypatch):
    file = tmp_path / "05-align-check/alignment.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"verdict": "30 % of rationales changed"}))
    manifest = Manifest(tmp_path / "manifest.json")
    assert alignment_report(tmp_path) == {}
    for second, stage_name in enumerate(("align", "align-check")):
        monkeypatch.setattr("time.strftime", lambda form, now=second: f"2026-01-01T00:00:0{now}+0000")
        manifest.record(stage_name, {}, [], {}, 0.0)
    assert alignment_report(tmp_path)["verdict"] == "30 % of rationales changed"
    monkeypatch.setattr("time.strftime", lambda form: "2026-01-01T00:00:09+0000")
    manifest.record("align", {"pairs": "others"}, [], {}, 0.0)
    assert alignment_report(tmp_path) == {}


def test_a_check_is_of_the_weights_that_it_looked_at_whenever_these_were_trained(tmp_path, monkeypatch):
    file = tmp_path / "05-align-check/alignment.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"verdict": "30 % of rationales changed"}))
    manifest = Manifest(tmp_path / "manifest.json")

    def trained(second: int, digest: str) -> None:
        monkeypatch.setattr("time.strftime", lambda form: f"2026-01-01T00:00:0{second}+0000")
        manifest.record("align", {}, [], {}, 0.0, result={"left": {"files": {"model.safetensors": digest}}})

    trained(0, "one")
    manifest.record("align-check", {}, [], {}, 0.0)
    enter_teacher(manifest)
    # Trained again, to the same weights: the check counts as done.
    trained(9, "one")
    assert alignment_report(tmp_path)["verdict"] == "30 % of rationales changed"
    # To others, within the second.
    trained(0, "two")
    assert alignment_report(tmp_path) == {}


def test_a_check_from_before_teachers_were_entered_is_taken_over(tmp_path):
    file = tmp_path / "05-align-check/alignment.json"
    file.parent.mkdir()
    file.write_text("{}")
    manifest = Manifest(tmp_path / "manifest.json")
    manifest.record("align-check", {}, [], {}, 0.0)
    enter_teacher(manifest)
    assert manifest.stages()["align-check"].result == {}
    files = {"model.safetensors": "one"}
    manifest.record("align", {}, [], {}, 0.0, result={"left": {"files": files}})
    enter_teacher(manifest)
    assert manifest.stages()["align-check"].result == {"aligned": files}


def test_another_runs_verdict_says_whose_it_is(tmp_path):
    file = tmp_path / "05-align-check/alignment.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"verdict": "30 % of rationales changed", "tasks": {"sums": {}}, "rewards": {}}))
    students = [{"name": "small", "model": {"model": "hash of small"}}]
    assert alignment_report_of_source(tmp_path, "./there", set()) == {}, "nothing was checked there"
    Manifest(tmp_path / "manifest.json").record("align-check", {"students": students}, [], {}, 0.0)
    for here, said in (("hash of small", "small"), ("hash of large", "small (not a student of this run)")):
        found = alignment_report_of_source(tmp_path, "./there", {here})
        [remark] = remarks(found)
        assert remark == f"alignment, as checked in ./there with {said} on sums: 30 % of rationales changed"
        assert found["from_run"]["run"] == "./there" and found["from_run"]["tasks"] == ["sums"]
    assert remarks(alignment_report(tmp_path)) == ["alignment: 30 % of rationales changed"], "of a run's own"


def test_a_change_is_required_of_a_teacher_that_was_not_checked():
    with pytest.raises(StageError, match=r"`arte.align.require_change` is 0.1, and the check .* another teacher"):
        require_change({}, 0.1)
    require_change({}, None)


def test_a_change_cant_be_required_where_nobody_looks():
    with pytest.raises(ConfigError, match="`require_change` is held against what the check finds, and `check: false`"):
        check({"base_model": "x"}, align={"check": False, "require_change": 0.1})


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (report(3, liking=liked(0.0, 0.0, 0.0)), "of 40 rationales the teacher of ./other writes 3 .*`from_run`"),
        ({}, "there is no check of the teacher of ./other: .*"),
        (report(4, liking=liked(0.0, 0.0, 0.0)), ""),
    ],
)
def test_a_change_is_required_of_another_runs_teacher_too(tmp_path, there, said):
    """By that run's check, before anything is loaded."""
    file = tmp_path / "05-align-check/alignment.json"
    file.parent.mkdir()
    file.write_text(json.dumps(there))
    if there:
        Manifest(tmp_path / "manifest.json").record("align-check", {}, [], {}, 0.0)
    source = SimpleNamespace(folder=tmp_path, name="./other")
    args = check({"base_model": "x"}, from_run="./other", align={"require_change": 0.1}).arte
    ends = SimpleNamespace(close=lambda: None)
    run = SimpleNamespace(args=args, source=source, cache=ends, out=ends)
    if not said:
        return loop.require_change_of_source(run)
    with pytest.raises(StageError, match=said):
        loop.until(run, "pair")


def log(*losses: float, **more) -> SimpleNamespace:
    return SimpleNamespace(global_step=len(losses), log_history=[{"loss": loss, **more} for loss in losses])


def test_a_training_is_not_told_by_its_last_batch():
    """The demo's: three steps that did nothing, and a last batch of one pair."""
    assert describe(log(0.6931, 0.6931, 0.6929, 0.6903)).startswith("4 steps, loss 0.693 to 0.692 (means of the first")


def test_a_long_training_is_told_by_tenths_with_margins_and_accuracy():
    steps = log(*[0.7] * 10, *[0.6] * 80, *[0.5] * 10, **{"rewards/margins": 0.31, "rewards/accuracies": 0.75})
    assert describe(steps) == (
        "100 steps, loss 0.700 to 0.500, reward margin +0.310, chosen preferred 75 % (means of the first and last 10 "
        "of 100 logged)"
    )
    assert describe(SimpleNamespace(global_step=3, log_history=[{"eval_loss": 1.0}])) == ""
    assert describe(None) == ""
