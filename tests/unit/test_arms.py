from typing import cast

import pytest

from arte_plugin.config.arms import ARMS
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Request
from arte_plugin.errors import DataError
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Draft, Question
from arte_plugin.stages.arms import alike, cut_to_equal_size, drafted_examples
from arte_plugin.stages.tailoring import Teachers, regenerate
from tests.plain import PlainRenderer

SCORES = {
    ("q1", "steps"): 0.2, ("q1", "rule"): 0.9,
    ("q2", "steps"): 0.6, ("q2", "rule"): 0.5,
    ("q3", "steps"): 0.8, ("q3", "rule"): 0.8,
    ("q4", "steps"): 0.1,
}  # fmt: skip


def draft(question: str, technique: str) -> Draft:
    return Draft(
        draft_id=f"{question}-{technique}",
        task="sums",
        question_id=question,
        question=f"text of {question}",
        target="4",
        technique=technique,
        rationale=f"{technique} of {question} <ans>4</ans>",
        answer="4",
        question_prompt="ask",
        solve_prompt=f"solve {question}",
    )


DRAFTS = [draft(*key) for key in SCORES]
SCORED = {f"{q}-{t}": value for (q, t), value in SCORES.items()}


def of(*names: str):
    return {name: ARMS[name] for name in names}


def taken(rationales: str, wanted: int = 4) -> list[str]:
    return [row.rationale.split(" <")[0] for row in drafted_examples(DRAFTS, SCORED, rationales, wanted, 1)[0]]


def test_best_takes_each_questions_best_scored_rationale():
    best = taken("best")
    assert best[:2] + best[3:] == ["rule of q1", "steps of q2", "steps of q4"]
    assert best[2] in ("rule of q3", "steps of q3"), "they tie"
    assert taken("best", wanted=2) == ["rule of q1", "steps of q2"]


def test_best_technique_is_one_for_the_whole_task():
    # rule: 0.73 over three drafts, steps: 0.43 over four.
    examples, dropped = drafted_examples(DRAFTS, SCORED, "best_technique", 4, 1)
    assert [row.rationale.split(" <")[0] for row in examples] == ["rule of q1", "rule of q2", "rule of q3"]
    assert [(row.reason, row.id) for row in dropped] == [("rationale_missing", "q4")]


def test_a_technique_with_few_drafts_is_not_the_best_one():
    rare = [*DRAFTS, draft("q1", "rare")]
    examples, _ = drafted_examples(rare, {**SCORED, "q1-rare": 1.0}, "best_technique", 4, 1)
    assert [row.rationale.split(" <")[0] for row in examples] == ["rule of q1", "rule of q2", "rule of q3"]


def test_random_is_one_of_each_question_and_the_same_for_a_seed():
    assert taken("random") == taken("random")
    assert [text.split(" of ")[1] for text in taken("random")] == ["q1", "q2", "q3", "q4"]
    seen = {drafted_examples(DRAFTS, SCORED, "random", 1, seed)[0][0].rationale for seed in range(20)}
    assert len(seen) == 2


def test_an_example_is_trained_on_under_the_plain_prompt():
    row = drafted_examples(DRAFTS, SCORED, "best", 1, 1)[0][0]
    assert (row.prompt, row.question, row.target, row.answer) == ("solve q1", "text of q1", "4", "4")


@pytest.mark.parametrize("arm", ["original_teacher", "rationale_only"])
def test_drafts_without_scores_are_refused_before_a_teacher_is_asked(arm):
    task = Task(TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}), [], [], [], 0)
    never = Teachers(cast(Model, None))
    with pytest.raises(DataError, match=f"Task sums: of its arms {arm} take .* not one draft of this task has a score"):
        regenerate([task], never, of("arte", arm), DRAFTS, {}, RegenerateArgs(), ElicitArgs(), 1)


def test_arms_are_cut_to_the_smallest():
    best, consistent = (drafted_examples(DRAFTS, SCORED, name, 4, 1)[0] for name in ("best", "best_technique"))
    kept, lost = cut_to_equal_size({"original_teacher": best, "task_consistent": consistent})
    assert {arm: len(rows) for arm, rows in kept.items()} == {"original_teacher": 3, "task_consistent": 3}
    assert [row.reason for row in lost["original_teacher"]] == ["equal_size"]
    assert lost["task_consistent"] == []


@pytest.mark.parametrize("arm", [*ARMS])
def test_arms_that_share_a_source_are_told_in_the_paper(arm):
    shared = [other for other in ARMS if ARMS[other].key == ARMS[arm].key and other != arm]
    assert shared in ([], ["original_teacher"], ["most_preferred"])


class Writer:
    """Replies in the form that is asked for; `word` goes into its questions, `way` into its rationales."""

    def __init__(self, word: str, way: str):
        self.word, self.way = word, way
        self.requests: list[Request] = []

    def generate(self, batch, keep=None):
        self.requests += batch
        return [Completion(self._reply(request), "stop", 1, 1) for request in batch]

    def _reply(self, request):
        if "Write 5 new questions" not in request.prompt:
            return f"{self.way} <ans>4</ans>"
        # Another text with every call, and one that has no answer.
        numbers = [f"{request.seed % 1000}+{i}" for i in range(4)]
        parts = [f"<Question_4><input>{self.word} {n}</input><target>4</target></Question_4>" for n in numbers]
        return "".join(parts) + "<Question_4><input>none</input><target></target></Question_4>"

    def report(self):
        return ""

    def close(self):
        pass


@pytest.fixture
def regenerated(tmp_path):
    """What two teachers make of the arms `arte` and `unaligned`, and what they were asked."""

    def run(aligned: Writer, unaligned: Writer):
        args = TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number")
        task = Task(args, [Question(f"s{i}", "sums", f"{i} + {i}?", "4") for i in range(4)], [], [], 0)
        cache = RequestCache(tmp_path / "requests.sqlite")
        models = [
            Model(name, {"model": name}, PlainRenderer(), lambda engine=engine: engine, cache, 4, 10.0)
            for name, engine in (("aligned", aligned), ("unaligned", unaligned))
        ]
        settings = RegenerateArgs(questions=6)
        [made] = regenerate([task], Teachers(*models), of("arte", "unaligned"), [], {}, settings, ElicitArgs(), 1)
        return made

    return run


def test_the_control_is_the_same_pipeline_with_the_teacher_as_it_was(regenerated):
    aligned, unaligned = Writer("new", "By parts."), Writer("old", "At once.")
    made = regenerated(aligned, unaligned)
    assert {arm: len(rows) for arm, rows in made.examples.items()} == {"arte": 6, "unaligned": 6}
    assert all(row.question.startswith("new") and "By parts" in row.rationale for row in made.examples["arte"])
    assert all(row.question.startswith("old") and "At once" in row.rationale for row in made.examples["unaligned"])
    # Questions: by the same prompts, seeds and sizes.
    asked, control = ([one for one in e.requests if "Write 5 new" in one.prompt] for e in (aligned, unaligned))
    assert asked == control
    assert made.questions == {"aligned": 6, "unaligned": 6}
    # No two are the same row, or one would be lost where rows are collected.
    lost = [*made.dropped_questions["aligned"], *made.dropped_questions["unaligned"]]
    assert len(set(lost)) == len(lost) == 2 * len(made.dropped_questions["aligned"]) > 0
    assert alike(made.examples["unaligned"], made.examples["arte"]) == ""


def test_what_both_teachers_wrote_is_told(regenerated):
    made = regenerated(Writer("new", "By parts."), Writer("new", "At once."))
    said = alike(made.examples["unaligned"], made.examples["arte"])
    assert said == "as in arte: 6 of 6 questions, 0 of them with the same rationale"
    some = [*made.examples["arte"][:2], *made.examples["unaligned"][2:]]
    assert alike(some, made.examples["arte"]).endswith("6 of 6 questions, 2 of them with the same rationale")


def test_teachers_that_write_the_same_make_the_same_arm(regenerated):
    made = regenerated(Writer("new", "By parts."), Writer("new", "By parts."))
    assert made.examples["unaligned"] == made.examples["arte"]
    assert alike(made.examples["unaligned"], made.examples["arte"]) == "the same examples as arte"


def test_a_rationale_that_both_teachers_lose_is_two_rows(regenerated):
    class Loses(Writer):
        def _reply(self, request):
            reply = super()._reply(request)
            last = request is self.requests[-1] and "Write 5 new questions" not in request.prompt
            return "no answer" if last else reply

    made = regenerated(Loses("new", "By parts."), Loses("new", "By parts."))
    lost = [[row for row in made.dropped[arm] if row.reason == "rationale_without_answer"] for arm in made.dropped]
    assert lost[0] and [row.id for row in lost[1]] == [f"unaligned teacher, {row.id}" for row in lost[0]]
