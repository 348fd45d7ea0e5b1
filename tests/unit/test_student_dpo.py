"""What `student.dpo` may say, and that it changes nothing where it says nothing."""

import pytest
from pydantic import ValidationError

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.config.student_dpo import pairing, training_keys
from arte_plugin.plan.work import Sizes
from arte_plugin.run.manifest import Count, Manifest
from arte_plugin.show.summary import summary
from arte_plugin.stages.student_dpo import StudentDpo, dpo_trainings, stage_of

TASK = {"name": "sums", "description": "Add.", "questions": {"path": "sums.jsonl"}, "answer": "number"}


def student(**dpo):
    return StudentArgs(base_model="somewhere/student", dpo=dpo)


def test_a_pairing_and_axolotls_keys():
    one = student(pairing={"right_over_wrong": {"samples": 3}}, dpo_loss_type=["sigmoid_norm", "sft"])
    assert (pairing(one.dpo).name, pairing(one.dpo).settings.samples) == ("right_over_wrong", 3)
    assert training_keys(one.dpo) == {"dpo_loss_type": ["sigmoid_norm", "sft"]}


@pytest.mark.parametrize(
    ("dpo", "said"),
    [
        ({"learning_rate": 1e-6}, "it needs a `pairing`: `right_over_wrong`"),
        ({"pairing": "right_over_wrng"}, "did you mean `right_over_wrong`?"),
        ({"pairing": "threshold"}, "makes pairs for the teacher: it goes into `pair.pairing`"),
        ({"pairing": "right_over_wrong", "rl": "kto"}, "can't set rl: ARTE sets that itself"),
        ({"pairing": "right_over_wrong", "base_model": "teacher"}, "can't set base_model"),
        ({"pairing": "right_over_wrong", "chat_template": "chatml"}, "behind other prompts"),
    ],
)
def test_what_is_wrong_is_said(dpo, said):
    with pytest.raises(ValidationError) as error:
        student(**dpo)
    assert said in str(error.value)


def test_it_goes_on_from_whole_weights_only():
    with pytest.raises(ValidationError, match=r"`sft.adapter: lora` leaves an adapter"):
        StudentArgs(base_model="somewhere/student", sft={"adapter": "lora"}, dpo={"pairing": "right_over_wrong"})
    assert StudentArgs(base_model="s", dpo={"pairing": "right_over_wrong", "adapter": "lora"}).dpo


def test_each_arm_and_seed_has_one_and_none_where_none_is_asked_for():
    entry = {"base_model": "somewhere/student", "dpo": {"pairing": "teacher_over_student"}}
    args = ArteArgs(student=entry, tasks=[TASK], seeds=[1, 2])
    names = [stage_of(one) for one in dpo_trainings(args)]
    assert names == [f"student-dpo/{arm}/seed-{seed}" for arm in ("arte", "unaligned") for seed in (1, 2)]
    [first, _] = dpo_trainings(ArteArgs(student=entry, tasks=[TASK]))
    assert stage_of(first) == "student-dpo"
    without = ArteArgs(student={"base_model": "somewhere/student"}, tasks=[TASK])
    assert not StudentDpo().asked(without, True) and StudentDpo().asked(args, True)


def test_the_plan_counts_its_attempts():
    entry = {"base_model": "somewhere/student", "dpo": {"pairing": {"right_over_wrong": {"samples": 8}}}}
    args = ArteArgs(student=entry, tasks=[TASK], arms=["arte", "unaligned"])
    sizes = Sizes(questions=10, techniques=4, validation=16, size=8, shots=[0], examples=12)
    [one, other] = StudentDpo().calls(args, sizes)
    assert (one.stage, one.who, one.calls, other.calls) == ("student-dpo", "student", 96, 96)


def test_a_run_without_it_hears_nothing_of_it(tmp_path):
    with_it = ArteArgs(student={"base_model": "student", "dpo": {"pairing": "right_over_wrong"}}, tasks=[TASK])
    without = ArteArgs(student={"base_model": "student"}, tasks=[TASK])
    manifest = Manifest(tmp_path / "manifest.json")
    manifest.record("elicit", {}, [Count("questions", 3, 3)], {}, 1.0)
    assert "student-dpo" not in summary(tmp_path, without) and "student-dpo" not in summary(tmp_path)
    assert "student-dpo" in summary(tmp_path, with_it)
    manifest.record("student-dpo", {}, [Count("pairs", 3, 3)], {}, 1.0)
    # Taken out of the YAML since.
    assert "student-dpo" not in summary(tmp_path, without)
    assert "student-dpo" in summary(tmp_path)


def test_rounds_of_before_stay_done():
    """They go on with the students of stage 7, and their inputs hold the versions of all stages of a round."""
    assert "student-dpo" not in versions.stage_inputs("rounds", {})["versions"]["stage"]
    assert "sft" in versions.stage_inputs("rounds", {})["versions"]["stage"]
