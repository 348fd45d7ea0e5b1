"""How far a training has moved the weights, from files alone."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from arte_plugin.errors import StageError
from arte_plugin.run.merging import refuse_lossy
from arte_plugin.training import weight_change
from arte_plugin.training.weight_change import Change, change, lost_by_merging
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def matrices(model):
    return [one for one in model.parameters() if one.dim() > 1]


@pytest.mark.parametrize("sampled", [1 << 20, 64])
def test_all_weights(base, sampled, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_change, "_SAMPLED", sampled)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        for one in matrices(model):
            one.mul_(1.01)
    model.save_pretrained(tmp_path)
    found = change(str(base), tmp_path, "the student")
    assert found.relative == pytest.approx(0.01, rel=1e-3)
    assert found.changed == pytest.approx(1.0, abs=1e-3)


def test_a_share_of_the_weights(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        for one in matrices(model):
            one[: one.shape[0] // 4].add_(1e-3)
    model.save_pretrained(tmp_path)
    assert change(str(base), tmp_path, "the student").changed == pytest.approx(0.25, abs=0.01)


def test_untouched(base, caplog):
    assert change(str(base), base, "the student") == Change(0.0, 0.0)
    assert "the student: weights moved by 0 %, 0 % of them changed, most updates were rounded away" in caplog.text


def test_loading_in_another_precision_is_no_change(base, tmp_path):
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert change(str(base), tmp_path, "the student") == Change(0.0, 0.0)


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 3}}])
def test_adapter(base, more, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **more))
    torch.manual_seed(0)
    deltas, wholes = 0.0, 0.0
    with torch.no_grad():
        for layer in (one for one in model.modules() if hasattr(one, "lora_B")):
            layer.lora_B["default"].weight.normal_(std=0.02)
            deltas += float(layer.get_delta_weight("default").square().sum())
            wholes += float(layer.base_layer.weight.square().sum())
    model.save_pretrained(tmp_path)
    found = change(str(base), tmp_path, "the student")
    assert found.relative == pytest.approx((deltas / wholes) ** 0.5, rel=1e-4)
    assert found.changed is None


def test_what_can_not_be_read_is_no_figure(base, tmp_path, caplog):
    assert change(str(base), tmp_path, "the student") is None
    assert "can't tell how far" in caplog.text


def test_parts_that_do_not_belong_together_are_left_out(base, tmp_path):
    weights = load_file(base / "model.safetensors")
    name = next(key for key, one in weights.items() if one.dim() > 1)
    save_file({**weights, name: torch.zeros(3, 3), "other": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    assert change(str(base), tmp_path, "the student") == Change(0.0, 0.0)


def test_the_note_warns_where_that_is_too_little():
    assert Change(0.012).note() == "weights moved by 1.2 %"
    assert "raise `learning_rate`" in Change(1e-5).note()
    assert Change(1e-4, 0.98).note() == "weights moved by 0.01 %, 98 % of them changed"
    assert Change(1e-4, 0.001).note().endswith("0.1 % of them changed, most updates were rounded away")


def saved_adapter(base, folder, seed, std):
    """An adapter whose B has this much in it, and what it adds to each matrix."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    torch.manual_seed(seed)
    layers = {name: one for name, one in model.named_modules() if hasattr(one, "lora_B")}
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_A["default"].weight.normal_(std=0.1)
            layer.lora_B["default"].weight.normal_(std=std)
        model.save_pretrained(folder)
        return {name: (one.get_delta_weight("default"), one.base_layer.weight.clone()) for name, one in layers.items()}


def test_from_an_earlier_adapter_on(base, tmp_path):
    before = saved_adapter(base, tmp_path / "before", seed=0, std=0.02)
    after = saved_adapter(base, tmp_path / "after", seed=1, std=0.02)
    moved = sum(float((after[name][0] - before[name][0]).square().sum()) for name in after)
    whole = sum(float(weight.square().sum()) for _, weight in after.values())
    found = change(str(base), tmp_path / "after", "the teacher", start=str(tmp_path / "before"))
    assert found.relative == pytest.approx((moved / whole) ** 0.5, rel=1e-4)
    same = change(str(base), tmp_path / "after", "the teacher", start=str(tmp_path / "after"))
    assert same.relative == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("sampled", [1 << 20, 64])
def test_what_merging_loses(base, sampled, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_change, "_SAMPLED", sampled)
    layers = saved_adapter(base, tmp_path, seed=0, std=1e-5)
    lost = update = 0.0
    for added, weight in layers.values():
        weight = weight.bfloat16().double()
        whole = weight + added.double()
        lost += float((whole.bfloat16().double() - whole).square().sum())
        update += float(added.double().square().sum())
    assert lost_by_merging(str(base), tmp_path, "bfloat16") == pytest.approx((lost / update) ** 0.5, rel=0.15)
    assert lost_by_merging(str(base), tmp_path, "bfloat16") > 0.9
    assert lost_by_merging(str(base), tmp_path, "float32") < 0.01


def test_a_larger_adapter_survives_merging(base, tmp_path):
    saved_adapter(base, tmp_path, seed=0, std=0.3)
    assert lost_by_merging(str(base), tmp_path, "bfloat16") < 0.1
    refuse_lossy(str(base), tmp_path, "bfloat16", "the teacher's")


def test_merging_that_would_lose_the_adapter_is_refused(base, tmp_path):
    saved_adapter(base, tmp_path, seed=0, std=1e-5)
    with pytest.raises(StageError, match=r"Merging the teacher's adapter .* would lose \d+ % of it"):
        refuse_lossy(str(base), tmp_path, "bfloat16", "the teacher's")
