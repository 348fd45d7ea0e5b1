"""What the teacher's training left, and what another one makes of it."""

import json
from types import SimpleNamespace

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.errors import ConfigError
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.run.manifest import Count, Manifest
from arte_plugin.run.source import SourceRun
from arte_plugin.training import align, checkpoints, weights_left

CONFIG = {"lora_alpha": 16, "r": 8, "base_model_name_or_path": "teacher"}


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    # What DPO with LoRA leaves beside it, and what Axolotl writes.
    (tmp_path / "model.safetensors").write_bytes(b"all")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("A model.")
    return tmp_path


@pytest.fixture
def full(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"all")
    return tmp_path


def check(folder, left):
    return weights_left.check(folder, left, 1.0)


def test_what_is_as_it_was_left_is_right(adapter):
    left = weights_left.entry(adapter)
    (adapter / "README.md").write_text("Another text.")
    assert check(adapter, json.loads(json.dumps(left))) == ""


def test_the_config_of_a_stopped_training_is_seen_and_put_back(adapter, caplog):
    left = weights_left.entry(adapter)
    (adapter / "adapter_config.json").write_text(json.dumps({**CONFIG, "lora_alpha": 64}))
    assert weights_left.differences(adapter, left) == ["adapter_config.json says `lora_alpha: 64` instead of 16"]
    with caplog.at_level("WARNING"):
        assert check(adapter, left) == ""
    assert "`lora_alpha: 64` instead of 16" in caplog.text and "it is put back" in caplog.text
    assert json.loads((adapter / "adapter_config.json").read_text()) == CONFIG
    assert weights_left.differences(adapter, left) == []


def test_another_rank_waits_for_the_first_to_put_it_back(adapter, monkeypatch):
    left = weights_left.entry(adapter)
    (adapter / "adapter_config.json").write_text(json.dumps({**CONFIG, "lora_alpha": 64}))
    monkeypatch.setattr(weights_left.ranks, "is_first", lambda: False)
    looks = []

    def wait(progress, goal, timeout, what):
        looks.append(progress())
        (adapter / "adapter_config.json").write_text(json.dumps(CONFIG))
        looks.append(progress())

    monkeypatch.setattr(weights_left.ranks, "wait_until", wait)
    assert check(adapter, left) == "" and looks == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"others"), "holds something else"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is gone"),
        (lambda folder: (folder / "adapter_model.bin").write_bytes(b"more"), "adapter_model.bin has come"),
    ],
)
def test_other_weights_are_not_the_aligned_teacher_s(adapter, change, said):
    left = weights_left.entry(adapter)
    change(adapter)
    assert said in check(adapter, left)


def test_a_full_model(full):
    left = weights_left.entry(full)
    assert check(full, left) == ""
    (full / "model.safetensors").write_bytes(b"others")
    assert "model.safetensors holds something else" in check(full, left)


def test_a_model_that_lay_in_pieces_may_be_put_together(full):
    (full / "model.safetensors").unlink()
    left = weights_left.entry(full)
    (full / "model.safetensors").write_bytes(b"all")
    assert check(full, left) == ""


def test_from_run_looks_too(adapter, tmp_path):
    left = {weights_left.KEY: weights_left.entry(adapter)}
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    (teacher / "config.json").write_text("{}")
    inputs = {"teacher": fingerprint_model(str(teacher)), "prompt_style": "auto"}
    manifest = Manifest(adapter / "arte/manifest.json")
    manifest.record("align", inputs, [Count("pairs", 3, 3)], {}, 1.0, result=left)
    cfg = {"base_model": str(teacher), "adapter": "lora"}
    assert SourceRun(str(adapter), cfg).output_dir == adapter
    (adapter / "adapter_config.json").write_text(json.dumps({**CONFIG, "lora_alpha": 64}))
    with pytest.raises(ConfigError, match="lora_alpha: 64"):
        SourceRun(str(adapter), cfg)


def test_checkpoints_beside_other_weights_are_not_gone_on_from(tmp_path, monkeypatch):
    folder = tmp_path / "arte"
    checkpoints.resume({}, tmp_path, folder, align.hash_of({"pairs": "p"}))
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-9/trainer_state.json").write_text("{}")
    manifest = Manifest(folder / "manifest.json")
    manifest.record("align", {"pairs": "p"}, [], {}, 1.0)
    monkeypatch.setattr(align, "stay_on_cpu", lambda cfg: None)
    monkeypatch.setattr(align.dpo_rows, "install", lambda: None)
    out = SimpleNamespace(path=folder, manifest=manifest, file=lambda *parts: folder.joinpath(*parts))
    task = {"name": "t", "description": "d", "questions": {"path": "x"}}
    args = ArteArgs.model_validate({"student": {"base_model": "student"}, "tasks": [task]})
    run = SimpleNamespace(
        cfg={"seed": 1}, args=args, output_dir=tmp_path, not_aligned="somebody else's", out=out,
        pairs_file=folder / "pairs.jsonl", teacher_tokenizer=lambda: "tokenizer",
    )  # fmt: skip
    cfg: dict = {"datasets": [], "arte": {}}
    align.prepare_training(cfg, run, {"pairs": "p"})
    assert "resume_from_checkpoint" not in cfg and not (tmp_path / "checkpoint-9").exists()
    assert "align" not in manifest.stages()
