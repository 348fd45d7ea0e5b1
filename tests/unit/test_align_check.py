"""The check of the alignment: two teachers with staged replies, a student that answers by the example it is shown."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from arte_plugin.config.align import TRAINED, VALIDATION
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.diagnostics.alignment import alignment_lines
from arte_plugin.engines.base import Completion, Likelihood
from arte_plugin.errors import ConfigError, StageError
from arte_plugin.loop import loop
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Order, PreferencePair, PreferenceQuestion, Question
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
from arte_plugin.stages.align_asking import ask_teachers
from arte_plugin.stages.new_questions import WrittenQuestion
from arte_plugin.training.align import describe
from tests.plain import PlainRenderer
from tests.unit.test_students import check

QUESTIONS = [Question(f"v{i}", "sums", f"{i} + {i}?", str(2 * i)) for i in range(100)]
TASK = Task(
    TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number"),
    [Question(f"s{i}", "sums", f"{i} + 1?", str(i + 1)) for i in range(4)], QUESTIONS, [], 0,
)  # fmt: skip
ORDER = Order("0", "sums", "new_question")


class Plain(PlainRenderer):
    """With an end of its own, to be seen."""

    def completion(self, text):
        return f" {text}<end>"


class Staged:
    """Answers every request with what `reply` makes of its prompt; weighs a reply by its length."""

    def __init__(self, reply):
        self.reply = reply
        self.asked = 0

    def generate(self, batch, keep=None):
        self.asked += len(batch)
        return [Completion(self.reply(one.prompt, one.seed), "stop", 1, 1) for one in batch]

    def likelihoods(self, batch):
        return [Likelihood(-float(len(one.text)), 1, 1) for one in batch]

    def report(self):
        return ""

    def close(self):
        pass


@pytest.fixture
def model(tmp_path):
    def make(name, reply):
        cache = RequestCache(tmp_path / "requests.sqlite")
        return Model(name, {"model": name}, Plain(), lambda: Staged(reply), cache, 8, 10.0)

    return make


def row(question: str, before: str, after: str, answers=("4", "4")) -> stage.Rewritten:
    return stage.Rewritten("sums", question, f"text of {question}", "4", before, after, *answers)


def pair(name: str, task: str = "sums", level="rationale") -> PreferencePair:
    return PreferencePair(name, level, task, "solve", "good", "bad", 0.9, 0.1, f"{name}-a", f"{name}-b")


# --- What is asked ----------------------------------------------------------------------------------------------------


def test_both_teachers_are_asked_by_the_calls_that_stage_6_begins_with(model):
    seen: dict[str, list[tuple[str, int]]] = {"was": [], "is": []}

    def writes(name):
        def reply(prompt, seed):
            seen[name].append((prompt, seed))
            return f"<Question_4><input>{seed} + 0?</input><target>1</target></Question_4>"

        return reply

    settings, asking = RegenerateArgs(), ElicitArgs()
    said = [stage.question_replies(TASK, model(name, writes(name)), settings, asking, 8, 1) for name in ("was", "is")]
    # Eight questions of five a call, and a quarter more.
    assert len(said[0]) == 2
    assert said[0] == said[1]
    assert seen["was"] == seen["is"]
    written = stage.new_questions(TASK, model("was", writes("was")), settings, asking, 8, 1)
    # The first calls were in the cache.
    assert len(seen["was"]) == len({*seen["was"]})
    assert set(seen["is"]) <= set(seen["was"])
    assert len(written) == 8


@pytest.mark.parametrize("number", [1, 2])
def test_each_round_asks_with_the_seed_of_its_own_stage_6(number, monkeypatch):
    # With that of the round before, the check would show students what they were fine-tuned on.
    args = ArteArgs.model_validate(
        {
            "student": {"base_model": "x"}, "rounds": 2, "round": number,
            "tasks": [{"name": "sums", "description": "Add.", "answer": "number", "questions": {"path": "x.jsonl"}}],
        }
    )  # fmt: skip
    asked = []
    new = SimpleNamespace(question="1 + 1", question_id="q1", target="2")
    made = {
        "new_questions": [new],
        "question_replies": [],
        "rationales": {"q1": SimpleNamespace(text="a", answer="2")},
    }
    for name, what in made.items():
        monkeypatch.setattr(stage, name, lambda *given, name=name, what=what: asked.append((name, given[-1])) or what)
    monkeypatch.setattr(stage, "log_probabilities", lambda pairs, teacher: [])
    teachers = [SimpleNamespace(served=False, close=lambda: None) for _ in range(2)]
    ask_teachers(SimpleNamespace(args=args, tasks=[SimpleNamespace(name="sums")]), *teachers, [], [], set())
    assert {name for name, _ in asked} == set(made)
    assert {seed for _, seed in asked} == {args.sampling_seed}


def test_a_rationale_without_an_answer_counts_as_written_but_not_as_usable(model):
    questions = [WrittenQuestion(f"n{i}", f"{i} + 2?", str(i + 2), "ask", "", ORDER) for i in range(2)]
    teacher = model("was", lambda prompt, seed: "Two. <ans>2</ans>" if "0 + 2" in prompt else "Three, it seems.")
    found = stage.rationales(TASK, teacher, questions, RegenerateArgs(), ElicitArgs(), 1)
    assert found == {"n0": stage.Written("Two. <ans>2</ans>", "2"), "n1": stage.Written("Three, it seems.", None)}
    assert not stage.Rewritten("sums", "n1", "", "", "a", "b", None, "2").usable


def test_the_margin_is_how_far_the_teacher_moved_from_rejected_to_chosen(model):
    [before] = stage.log_probabilities([pair("r-1")], model("was", None))
    # As it is trained on: rendered, with its end.
    assert before == (-float(len(" good<end>")), -float(len(" bad<end>")))
    weighed = stage.Weighed("r-1", "sums", "rationale", "held_out", -10.0, -10.0, -9.0, -12.0)
    assert weighed.margin == pytest.approx(3.0)


def test_no_more_trained_pairs_of_a_task_than_its_share_are_weighed():
    many = [pair(f"r-{i}", task) for task in ("sums", "words") for i in range(70)]
    kept = stage.some_trained(many, 1)
    assert [sum(one.task == task for one in kept) for task in ("sums", "words")] == [TRAINED, TRAINED]
    assert stage.some_trained(many[:20], 1) == many[:20]


def test_the_student_is_asked_outside_of_the_preference_set():
    chosen = [PreferenceQuestion(f"v{i}", "sums", "", "", None, None) for i in range(30)]
    shown = stage.shown_with(TASK, chosen, 1)
    assert len(shown) == VALIDATION
    assert not {one.preference_id for one in shown} & {one.preference_id for one in chosen}
    whole = [PreferenceQuestion(f"v{i}", "sums", "", "", None, None) for i in range(100)]
    assert stage.shown_with(TASK, whole, 1) == []


def test_an_unchanged_rationale_is_shown_once_and_makes_no_difference(model):
    engine_calls: list[str] = []

    def answers(prompt, seed):
        engine_calls.append(prompt)
        return "<ans>0</ans>" if "good way" in prompt else "no answer"

    rows = [row("n1", "same <ans>4</ans>", "same <ans>4</ans>"), row("n2", "x <ans>4</ans>", "good way <ans>4</ans>")]
    asked = [PreferenceQuestion(f"v{i}", "sums", f"{i} + {i}?", str(2 * i), None, None) for i in range(3)]
    found, probes = stage.ask_student(TASK, rows, asked, model("student", answers), ProbeArgs())
    assert len(engine_calls) == len(probes) == 3 * 3
    assert found.right_after.tolist() == [[0, 0, 0], [1, 0, 0]]
    assert found.readable_before is not None and found.readable_after is not None
    assert found.readable_before.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert found.readable_after.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_likelihoods_take_the_place_of_answers_where_they_are_the_score(model):
    rows = [row("n1", "a <ans>4</ans>", "b <ans>4</ans>")]
    asked = [PreferenceQuestion("v1", "sums", "1 + 1?", "2", None, None)]
    found, probes = stage.ask_student(TASK, rows, asked, model("student", None), ProbeArgs(score="likelihood"))
    assert probes == [] and found.readable_before is None
    assert found.right_before[0, 0] == pytest.approx(np.exp(-len("2</ans>")))
    assert "readable" not in stage.liking([found], 1)


# --- What comes of it -------------------------------------------------------------------------------------------------


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


# --- What the training says of itself ---------------------------------------------------------------------------------


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
