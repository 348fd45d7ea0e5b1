"""What a cached answer's key knows of the model that gave it."""

import pytest
from axolotl.utils.dict import DictDefault

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def identity(model, tmp_path):
    """`identity(load_in_4bit=True)`: the teacher's identity with such keys in its config."""
    task = {"name": "t", "description": "d", "questions": {"path": "x"}}
    args = ArteArgs.model_validate({"student": {"base_model": model}, "tasks": [task]})
    cache = RequestCache(tmp_path / "requests.sqlite")

    def of(**more):
        places = {"base_model": model, "base_model_config": model, "tokenizer_config": model}
        cfg = DictDefault({**places, "torch_dtype": "torch.float32", **more})
        return dict(teacher_model(cfg, args, cache).identity)

    of.student = lambda: dict(student_model(args.students[0], args, {}, cache).identity)
    yield of
    cache.close()


@pytest.mark.parametrize(
    "keys",
    [
        {"overrides_of_model_config": {"rope_theta": 5e5}},
        {"overrides_of_model_kwargs": {"experts_implementation": "x"}},
        {"model_quantization_config": "Mxfp4Config"},
        {"quantize_moe_experts": True},
        {"load_in_4bit": True},
        {"attn_implementation": "sdpa"},
        {"torch_dtype": "torch.bfloat16"},
        {"a_key_of_next_year": 1},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_keys_that_change_the_teacher_s_answers_are_in_its_identity(identity, keys):
    assert identity(**keys) != identity()


@pytest.mark.parametrize(
    "keys",
    [{"learning_rate": 1e-4}, {"wandb_project": "mine"}, {"sequence_len": 4096}, {"micro_batch_size": 8}],
    ids=lambda keys: next(iter(keys)),
)
def test_keys_of_the_training_are_not(identity, keys):
    assert identity(**keys) == identity()


def test_a_checkpoint_s_own_code_is_in_the_student_s_identity(model, tmp_path):
    task = {"name": "t", "description": "d", "questions": {"path": "x"}}
    plain, trusted = (
        student_model(args.students[0], args, {}, RequestCache(tmp_path / "c.sqlite")).identity
        for trust in (False, True)
        for args in [ArteArgs(student={"base_model": model, "trust_remote_code": trust}, tasks=[task])]
    )
    assert plain != trusted


def test_where_nothing_new_is_said_the_form_is_the_first_version_s(identity):
    """Or all that was asked before would be asked again."""
    assert list(identity(load_in_8bit=False, load_in_4bit=False, adapter="lora", lora_r=4)) == [
        "model", "adapter", "tokenizer", "quantisation", "dtype", "attention", "engine",
    ]  # fmt: skip


def test_the_engine_s_version_is_in_it(identity, monkeypatch):
    before = identity(), identity.student()
    monkeypatch.setitem(versions.ENGINES, "transformers", versions.ENGINES["transformers"] + 1)
    assert all(now != then for now, then in zip((identity(), identity.student()), before, strict=True))
