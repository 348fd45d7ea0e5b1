"""Several students, and several seeds: names, weights, and what is trained."""

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.check import check_config
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.rows import Score
from arte_plugin.run.trainings import trainings
from arte_plugin.stages.probing import preference_scores

TASK = {"name": "sums", "description": "Add.", "questions": {"path": "none.jsonl"}}


def make_args(student, **keys) -> ArteArgs:
    return ArteArgs.model_validate({"student": student, "tasks": [TASK], **keys})


def check(student, **keys):
    datasets = [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}]
    block = {"student": student, "tasks": [TASK], **keys}
    return check_config({"rl": "dpo", "plugins": ["arte_plugin.ArtePlugin"], "datasets": datasets, "arte": block})


def score(draft: str, student: str, value: float) -> Score:
    return Score(draft, draft[:2], "sums", student, value, 10, 0.0, 1.0, 0)


def test_a_student_is_named_after_its_model():
    args = make_args([{"base_model": "./models/small one"}, {"base_model": "Qwen/Qwen3-0.6B"}])
    assert [student.name for student in args.students] == ["small-one", "Qwen3-0.6B"]
    assert [student.name for student in make_args({"base_model": "."}).students] == ["student"]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (
            {"student": [{"base_model": "a/x"}, {"base_model": "b/X"}]},
            "two students are called 'x': give them a `name`",
        ),
        ({"student": []}, "arte.student: List should have at least 1 item"),
        (
            {"student": {"base_model": "x", "wieght": 2}},
            "arte.student.wieght: there is no such key; did you mean `weight`",
        ),
        (
            {"student": [{"base_model": "x", "nam": "y"}]},
            r"arte.student\[0\].nam: there is no such key; did you mean `name`",
        ),
        ({"student": [{"base_model": "x", "weight": 0}]}, r"arte.student\[0\].weight: Input should be greater than 0"),
        ({"student": "x"}, "arte.student: Input should be a valid dictionary"),
        ({"student": {"base_model": "x"}, "seeds": [1, 1]}, "arte.seeds: 1 stands there twice"),
        ({"student": {"base_model": "x", "sft": {"seed": 3}}, "seeds": [1, 2]}, "`student.sft.seed` both seed"),
        (
            {"student": {"base_model": "x", "sft": {"output_dir": "elsewhere", "datasets": []}}},
            "arte.student.sft: can't set datasets, output_dir",
        ),
        (
            {"student": [{"base_model": "x", "sft": {"revision_of_model": "main"}}]},
            r"arte.student\[0\].sft: can't set revision_of_model",
        ),
        (
            # An example that is cut has lost its answer, and stage 7 counts it as dropped.
            {"student": {"base_model": "x", "sft": {"excess_length_strategy": "truncate"}}},
            "arte.student.sft: can't set excess_length_strategy",
        ),
    ],
)
def test_a_wrong_list_is_told_in_the_words_of_the_yaml(block, said):
    with pytest.raises(ConfigError, match=said) as error:
        check(**block)
    assert len(str(error.value).splitlines()) == 2


def test_a_drafts_score_is_the_weighted_mean_over_students():
    scores = [score("q1-a", "s", 0.2), score("q1-a", "t", 0.8), score("q1-b", "t", 0.4), score("q1-b", "s", 0.6)]
    assert preference_scores(scores, {}) == pytest.approx({"q1-a": 0.5, "q1-b": 0.5})
    assert preference_scores(scores, {"s": 1.0, "t": 3.0}) == pytest.approx({"q1-a": 0.65, "q1-b": 0.45})
    # One student's scores stay what they are, to the last digit.
    assert preference_scores([score("q1-a", "s", 0.1 + 0.2)], {}) == {"q1-a": 0.1 + 0.2}


def test_a_draft_that_one_student_has_not_seen_is_refused():
    with pytest.raises(DataError, match="Draft q1-b has no score from t, only from s"):
        preference_scores([score("q1-a", "s", 0.2), score("q1-a", "t", 0.8), score("q1-b", "s", 0.4)], {})
    with pytest.raises(DataError, match="no score from u"):
        preference_scores([score("q1-a", "s", 0.2)], {"s": 1.0, "u": 1.0})


def test_each_student_arm_and_seed_is_one_training_with_its_own_folder():
    one = {"base_model": "x"}
    assert [(t.stage, t.folder, t.seed) for t in trainings(make_args(one, seed=7))] == [
        ("sft", "", 7),
        ("sft/unaligned", "unaligned", 7),
    ]
    assert [t.stage for t in trainings(make_args(one, arms=["arte", "question_only"]))] == ["sft", "sft/question_only"]
    several = make_args([one, {"base_model": "y"}], seeds=[1, 2], arms=["arte"])
    assert [(t.stage, t.seed) for t in trainings(several)] == [
        ("sft/x/arte/seed-1", 1),
        ("sft/x/arte/seed-2", 2),
        ("sft/y/arte/seed-1", 1),
        ("sft/y/arte/seed-2", 2),
    ]
    assert all(t.stage == f"sft/{t.folder}" for t in trainings(several))
