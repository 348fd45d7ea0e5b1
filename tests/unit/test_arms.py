from typing import cast, get_args

import pytest

from arte_plugin.args import Arm, ElicitArgs, RegenerateArgs
from arte_plugin.errors import DataError
from arte_plugin.models import Model
from arte_plugin.rows import Draft
from arte_plugin.stages.arms import ARMS, cut_to_equal_size, drafted_examples
from arte_plugin.stages.regenerate import Teachers, regenerate
from arte_plugin.task_args import TaskArgs
from arte_plugin.tasks import Task

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


def taken(rationales: str, wanted: int = 4) -> list[str]:
    return [row.rationale.split(" <")[0] for row in drafted_examples(DRAFTS, SCORED, rationales, wanted, 1)[0]]


def test_every_arm_of_the_config_has_its_source():
    assert list(ARMS) == list(get_args(Arm))


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
        regenerate([task], never, ["arte", arm], DRAFTS, {}, RegenerateArgs(), ElicitArgs(), 1)


def test_arms_are_cut_to_the_smallest():
    best, consistent = (drafted_examples(DRAFTS, SCORED, name, 4, 1)[0] for name in ("best", "best_technique"))
    kept, lost = cut_to_equal_size({"original_teacher": best, "task_consistent": consistent})
    assert {arm: len(rows) for arm, rows in kept.items()} == {"original_teacher": 3, "task_consistent": 3}
    assert [row.reason for row in lost["original_teacher"]] == ["equal_size"]
    assert lost["task_consistent"] == []


@pytest.mark.parametrize("arm", get_args(Arm))
def test_arms_that_share_a_source_are_told_in_the_paper(arm):
    shared = [other for other in ARMS if ARMS[other] == ARMS[arm] and other != arm]
    assert shared in ([], ["original_teacher"], ["most_preferred"])
