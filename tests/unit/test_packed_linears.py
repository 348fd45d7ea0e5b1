"""Linear layers on packed weights: the same logits, only while they are asked for, never from yesterday's weights."""

import pytest

torch = pytest.importorskip("torch")

from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from arte_plugin.engines import packed_linears  # noqa: E402
from arte_plugin.engines.base import Continuation, Reply, Request  # noqa: E402
from arte_plugin.engines.packed_linears import PackedLinears  # noqa: E402
from arte_plugin.engines.transformers import TransformersEngine  # noqa: E402
from tests.played_rows import mistral, some  # noqa: E402
from tests.tiny import tiny_model  # noqa: E402


@pytest.fixture
def calls(monkeypatch):
    """Every packed call's number of outputs."""
    seen = []
    forward = packed_linears._forward

    def counted(weight, bias, rows):
        out = forward(weight, bias, rows)
        seen.append(out.shape[-1])
        return out

    # Behind the try-out, which asks for it as well.
    monkeypatch.setattr(packed_linears, "_works", lambda: True)
    monkeypatch.setattr(packed_linears, "_forward", counted)
    return seen


@torch.inference_mode()
def logits(model) -> torch.Tensor:
    return model(input_ids=torch.tensor([some(40)]), use_cache=False).logits


def test_this_build_of_torch_has_what_is_wanted():
    assert packed_linears._works()


def test_logits_are_the_same_and_come_from_the_packed_weights_only_within(calls):
    model = mistral(None)
    expected = logits(model)
    packed = PackedLinears(model)
    with packed.used():
        found = logits(model)
    # Three layers of seven, and the output.
    assert len(calls) == 3 * 7 + 1 and calls[-1] == 300
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.equal(logits(model), expected) and len(calls) == 22


def test_the_layers_are_given_back_when_something_fails(calls):
    model = mistral(None)
    with pytest.raises(RuntimeError, match="on the way"), PackedLinears(model).used():
        raise RuntimeError("on the way")
    logits(model)
    assert not calls


def test_a_bias_is_added(calls):
    layer = torch.nn.Linear(16, 24)
    rows = torch.randn(2, 5, 16)
    expected = layer(rows)
    with torch.inference_mode(), PackedLinears(layer).used():
        assert torch.allclose(layer(rows), expected, atol=1e-5)
    assert calls == [24]


@pytest.mark.parametrize("change", ["in place", "another tensor", "loaded", "by its data"])
def test_changed_weights_are_packed_anew(calls, change):
    model = mistral(None)
    packed = PackedLinears(model)
    with packed.used():
        before = logits(model)
    layer = model.model.layers[0].self_attn.q_proj
    with torch.no_grad():
        if change == "in place":
            layer.weight.mul_(3)
        elif change == "another tensor":
            layer.weight = torch.nn.Parameter(3 * layer.weight)
        elif change == "by its data":
            layer.weight.data *= 3
        else:
            layer.load_state_dict({"weight": 3 * layer.weight})
    expected = logits(model)
    with packed.used():
        found = logits(model)
    assert torch.allclose(found, expected, atol=1e-4) and not torch.allclose(found, before, atol=1e-2)


def test_an_adapter_is_added_and_can_be_left_out(calls):
    model = mistral(None)
    plain = logits(model)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    expected = logits(adapted)
    packed = PackedLinears(adapted)
    with packed.used():
        assert torch.allclose(logits(adapted), expected, atol=1e-4)
        with adapted.disable_adapter():
            assert torch.allclose(logits(adapted), plain, atol=1e-4)
    assert calls and not torch.allclose(plain, expected, atol=1e-2)


def test_an_adapter_can_be_merged_in_between(calls):
    adapted = get_peft_model(mistral(None), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    packed = PackedLinears(adapted)
    with packed.used():
        expected = logits(adapted)
    adapted.merge_adapter()
    with packed.used():
        assert torch.allclose(logits(adapted), expected, atol=1e-4)
    adapted.unmerge_adapter()
    with packed.used():
        assert torch.allclose(logits(adapted), expected, atol=1e-4)


@pytest.mark.parametrize("model", ["half", "one half", "large", "no oneDNN"])
def test_other_models_stay_as_they_are(calls, monkeypatch, model):
    made = mistral(None)
    if model == "half":
        made = made.bfloat16()
    elif model == "one half":
        made.model.layers[1].mlp.up_proj.bfloat16()
    elif model == "large":
        monkeypatch.setattr(packed_linears, "MOST_BYTES", 1000)
    else:
        monkeypatch.setattr(packed_linears, "_works", lambda: False)
    packed = PackedLinears(made)
    assert not packed
    with packed.used():
        assert "forward" not in vars(made.lm_head)


def test_a_layer_that_computes_something_else_is_left_alone(calls):
    class Doubled(torch.nn.Linear):
        def forward(self, rows):
            return 2 * super().forward(rows)

    model = torch.nn.Sequential(torch.nn.Linear(8, 8), Doubled(8, 4))
    rows = torch.randn(3, 8)
    expected = model(rows)
    with torch.inference_mode(), PackedLinears(model).used():
        assert torch.allclose(model(rows), expected, atol=1e-5)
    assert calls == [8]


def test_the_engine_runs_on_them_whatever_it_is_asked(calls, tmp_path):
    folder = tiny_model(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    engine = TransformersEngine(model, AutoTokenizer.from_pretrained(folder))
    assert engine.describe()["packed"]
    asked = {
        "generate": lambda: engine.generate([Request("not True is", "a", 3, 0.0, 0)]),
        "likelihoods": lambda: engine.likelihoods([Reply("not True is", " False", "a")]),
        "weigh": lambda: engine.weigh([Continuation((5, 6, 7), (8, 9))]),
    }
    for name, ask in asked.items():
        calls.clear()
        ask()
        assert calls, name
    assert "forward" not in vars(model.lm_head)
