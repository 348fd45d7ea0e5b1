"""Seed questions as worked examples: what the teacher solves is shown, what it does not is not."""

import pytest

from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion
from arte_plugin.errors import TeacherError
from arte_plugin.language import prompts
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Question
from arte_plugin.stages.few_shot import with_worked_examples
from arte_plugin.stages.lm_eval_files import question_rows
from arte_plugin.stages.respond import respond
from arte_plugin.stages.worked_examples import solve_seeds
from tests.plain import PlainRenderer

ARGS = TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number")
GIVEN = Question("s0", "sums", "What is 0 + 0?", "0", "Nothing. <ans>0</ans>")
SEEDS = [GIVEN, *(Question(f"s{i}", "sums", f"What is {i} + {i}?", str(2 * i)) for i in (1, 2, 3, 4))]
TASK = Task(
    ARGS, SEEDS, [Question("v", "sums", "What is 7 + 7?", "14")], [Question("t", "sums", "And 8 + 8?", "16")], 0
)


class Solver:
    """Solves 1 and 2, gets 3 wrong and gives no answer to 4."""

    def __init__(self, replies=None):
        self.replies = replies or {
            "1": "Two. <ans>2</ans>", "2": "Four. <ans>4</ans>", "3": "Seven. <ans>7</ans>", "4": "I can't."
        }  # fmt: skip
        self.asked = []

    def generate(self, batch, keep=None):
        self.asked += batch
        return [Completion(self.replies[one.prompt.rpartition("What is ")[2][0]], "stop", 1, 1) for one in batch]

    def report(self):
        return ""

    def close(self):
        pass


@pytest.fixture
def model(tmp_path):
    def made(engine):
        return Model(
            "teacher", {}, PlainRenderer(), lambda: engine, RequestCache(tmp_path / "requests.sqlite"), 4, 10.0
        )

    return made


def test_seeds_that_the_teacher_solves_become_examples_and_the_others_are_counted(model):
    engine = Solver()
    solved, dropped = solve_seeds(TASK, model(engine), ElicitArgs(), 1)
    assert [(row.question_id, row.rationale) for row in solved] == [
        ("s1", "Two. <ans>2</ans>"),
        ("s2", "Four. <ans>4</ans>"),
    ]
    reasons = {row.id: row.reason for row in dropped}
    assert reasons == {"s3": "rationale_other_than_target", "s4": "rationale_without_answer"}
    # One call for each that has no solution in the data: greedy, under the plain prompt.
    assert [one.prompt for one in engine.asked] == [
        prompts.solve_prompt("Add.", "number", s.question) for s in SEEDS[1:]
    ]
    assert {one.temperature for one in engine.asked} == {0.0}


def test_few_shot_prompts_show_solutions_and_bare_answers_only_where_there_are_too_few(model):
    solved, _ = solve_seeds(TASK, model(Solver()), ElicitArgs(), 1)
    [shown] = with_worked_examples([TASK], solved, 3)
    worked = [("What is 0 + 0?", "Nothing. <ans>0</ans>"), ("What is 1 + 1?", "Two. <ans>2</ans>"),
              ("What is 2 + 2?", "Four. <ans>4</ans>")]  # fmt: skip
    [row] = question_rows(shown, 3)
    assert row["prompt"] == prompts.solve_prompt("Add.", "number", "And 8 + 8?", worked)
    asked = Solver({"7": "<ans>14</ans>"})
    respond(shown, model(asked), "plain", 3, ProbeArgs(), 1)
    assert "The answer is <ans>" not in asked.asked[0].prompt
    assert all(rationale in asked.asked[0].prompt for _, rationale in worked)
    # Fewer shots than solutions, of a task that shows bare ones at more shots: respondents see solutions all the same.
    [four] = with_worked_examples([TASK], solved, 4)
    for shots in (1, 2):
        asked = Solver({"7": "<ans>14</ans>"})
        respond(four, model(asked), "plain", shots, ProbeArgs(), 1)
        assert "The answer is <ans>" not in asked.asked[0].prompt
    [short] = with_worked_examples([TASK], solved, 4)
    assert [one.rationale for one in short.seeds] == [rationale for _, rationale in worked] + ["", ""]
    assert "The answer is <ans>6</ans>" in question_rows(short, 4)[0]["prompt"]


def test_the_tasks_themselves_stay_as_they_are(model):
    """They are inputs of every stage, and the teacher's question prompts show seeds without solutions."""
    before = list(TASK.seeds)
    with_worked_examples([TASK], solve_seeds(TASK, model(Solver()), ElicitArgs(), 1)[0], 3)
    assert TASK.seeds == before


def test_data_that_has_solutions_asks_nobody(model):
    given = Task(ARGS, [GIVEN], TASK.validation, TASK.test, 0)
    engine = Solver()
    assert solve_seeds(given, model(engine), ElicitArgs(), 1) == ([], [])
    assert not engine.asked


def test_a_teacher_that_solves_nothing_is_told_with_the_key(model):
    with pytest.raises(TeacherError, match=r"`elicit.worked_examples`.*none of the 4 rationales"):
        solve_seeds(TASK, model(Solver(dict.fromkeys("1234", "I can't."))), ElicitArgs(), 1)
