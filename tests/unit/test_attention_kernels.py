"""Which version of the hub's flash kernel is taken, whoever loads a model first."""

import pytest
from transformers.integrations import hub_kernels

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.student_lm import Candidate, loaded_student
from benchmarks.gpu_check.attention import try_layer
from tests.taught import TAUGHT

#: transformers' own choice, whose backward pass fails for grouped-query attention, and Axolotl's.
BROKEN, PINNED = 3, 2


class _Reached(Exception):
    """The place was reached where transformers takes the kernel."""


@pytest.fixture
def taken(monkeypatch):
    """The versions of the kernel that would be taken for the models loaded here."""
    mapping = getattr(hub_kernels, "_FLASH_ATTN_KERNEL_VERSION_MAPPING", None)
    pytest.importorskip("axolotl.monkeypatch.attention.fa2_hub_kernel", reason="newer ones have no pin")
    monkeypatch.setitem(mapping, 2, BROKEN)
    seen = []

    def look(*arguments, **options):
        seen.append(hub_kernels.get_attn_kernel_version("kernels-community/flash-attn2"))
        raise _Reached

    for name in ("from_pretrained", "from_config"):
        monkeypatch.setattr(f"transformers.AutoModelForCausalLM.{name}", look)
    return seen


def settings() -> ArteArgs:
    task = {"name": "sums", "description": "Add.", "questions": {"path": "none.jsonl"}}
    return ArteArgs.model_validate({"student": {"base_model": str(TAUGHT)}, "tasks": [task]})


def test_the_layers_of_gpu_check_are_tried_with_axolotls_version(taken):
    with pytest.raises(_Reached):
        try_layer("flash_attention_2", "cpu", str(TAUGHT))
    assert taken == [PINNED]


def test_a_student_is_asked_with_the_version_that_the_teacher_has(taken, tmp_path):
    args = settings()
    model = student_model(args.students[0], args, {"output_dir": str(tmp_path)}, RequestCache(tmp_path / "c.sqlite"))
    with pytest.raises(_Reached):
        model.load()
    assert taken == [PINNED]


def test_a_student_is_evaluated_with_the_version_that_the_teacher_has(taken):
    student = StudentArgs(base_model=str(TAUGHT))
    candidate = Candidate("base", "base", student, TrainedStudent(str(TAUGHT)))
    with pytest.raises(_Reached), loaded_student(candidate, {}, plain_greedy=True):
        pass
    assert taken == [PINNED]
