"""The check of the alignment: two teachers with staged replies, a student that answers by the example it is shown."""

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
from arte_plugin.engines.base import Completion, Likelihood
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Order, PreferencePair, PreferenceQuestion, Question
from arte_plugin.stages import before_after as stage
from arte_plugin.stages.align_asking import ask_teachers
from arte_plugin.stages.new_questions import WrittenQuestion
from tests.plain import PlainRenderer

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
