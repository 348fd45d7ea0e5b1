"""Memory of weights and of a training as planned, against real tensors."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig

from arte_plugin.plan import losses, machine, shapes, trace, training_memory
from benchmarks.plan_memory.check import allocated_peak
from tests.plans import shape
from tests.taught import TAUGHT

#: The paths in the examples begin in the repository's folder.
pytestmark = pytest.mark.usefixtures("in_the_repository")

#: Published architectures, by what stands for them in the examples.
LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8,
)  # fmt: skip
SMOLLM2 = LlamaConfig(
    vocab_size=49152, hidden_size=2048, intermediate_size=8192, num_hidden_layers=24, num_attention_heads=32,
    num_key_value_heads=32, tie_word_embeddings=True,
)  # fmt: skip
GEMMA_2B = GemmaConfig(
    vocab_size=256000, hidden_size=2048, intermediate_size=16384, num_hidden_layers=18, num_attention_heads=8,
    num_key_value_heads=1, head_dim=256,
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_those_of_a_loaded_model(dtype):
    loaded = AutoModelForCausalLM.from_pretrained(TAUGHT, dtype=getattr(torch, dtype))
    buffers = sum(one.numel() * one.element_size() for one in loaded.buffers())
    planned = shapes.shape_of("taught", shapes.find_config(str(TAUGHT))).weights(dtype)
    assert planned == loaded.get_memory_footprint() - buffers


@pytest.mark.parametrize("double", [True, False])
def test_weights_in_4_bits_are_those_of_a_loaded_model(double):
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    loaded = AutoModelForCausalLM.from_pretrained(TAUGHT, dtype=torch.bfloat16, quantization_config=quantised)
    held = float(loaded.get_memory_footprint())
    for module in loaded.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        for one in (state, getattr(state, "state2", None)):
            held += one.absmax.numel() * one.absmax.element_size() if one is not None else 0
    cfg = {"adapter": "qlora", "load_in_4bit": True, "bnb_config_kwargs": {"bnb_4bit_use_double_quant": double}}
    planned = shapes.shape_of("taught", shapes.find_config(str(TAUGHT))).weights("bfloat16", machine.packing(cfg))
    assert planned == pytest.approx(held, rel=0.02)


def test_parameters_of_published_architectures(tmp_path):
    assert shape(LLAMA_8B, tmp_path).parameters == 8_030_261_248
    assert shape(GEMMA_2B, tmp_path).parameters == 2_506_172_416
    smollm2 = shape(SMOLLM2, tmp_path)
    assert smollm2.parameters == 1_711_376_384
    # Keys and values of 24 layers and 32 heads of 64, in two bytes.
    assert smollm2.token_bytes == 2 * 24 * 32 * 64 * 2


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_step_without_data_holds_what_a_real_one_does(kind, checkpointing, tmp_path):
    """PyTorch's own account of its allocator, around a real step of a small model."""
    config = LlamaConfig(
        vocab_size=2048, hidden_size=128, intermediate_size=384, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4,
    )  # fmt: skip
    cfg = {"micro_batch_size": 2, "sequence_len": 192, "gradient_checkpointing": checkpointing}
    need = training_memory.training_need("", shape(config, tmp_path), cfg, 1, 192, dpo=kind == "dpo")

    model, reference = (AutoModelForCausalLM.from_config(config, attn_implementation="sdpa") for _ in range(2))
    reference.requires_grad_(False)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss = losses.dpo_loss if kind == "dpo" else losses.sft_loss
    ids = torch.randint(2048, (4 if kind == "dpo" else 2, 192))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as account:
        loss(model, reference, ids, False).backward()
    # Of so small a model a copy of the logits is a fifth; benchmarks/plan_memory has real trainers on a real model.
    assert need.longest == pytest.approx(allocated_peak(account, tmp_path / "trace.json"), rel=0.25)
    moments = 2 * sum(one.numel() * 4 for one in model.parameters())
    assert need.kept == moments + (need.weights if kind == "dpo" else 0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "keys", [{}, {"adapter": "lora", "lora_target_linear": True}, {"gradient_accumulation_steps": 4}]
)
def test_two_layers_and_three_tell_of_all(keys, checkpointing, tmp_path, monkeypatch):
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    cfg = {**keys, "bf16": True, "sequence_len": 128, "gradient_checkpointing": checkpointing}
    small = shape(config, tmp_path)
    for dpo in (True, False):
        by_few = training_memory.training_need("", small, cfg, 1, 128, dpo=dpo)
        with monkeypatch.context() as patch:
            # A stack whose layers can't be told is traced whole; the marks between the parts don't matter then.
            patch.setattr(trace, "layers_of", lambda model: None)
            whole = training_memory.training_need("", small, cfg, 1, 128, dpo=dpo)
        assert by_few.most == pytest.approx(whole.most, rel=0.01)


def test_what_makes_a_training_smaller(tmp_path):
    config = LlamaConfig(
        vocab_size=4096, hidden_size=512, intermediate_size=1024, num_hidden_layers=12, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    model = shape(config, tmp_path)
    full = {"bf16": True, "optimizer": "adamw_torch", "sequence_len": 64, "micro_batch_size": 2}
    lora = {**full, "adapter": "lora", "lora_r": 16, "lora_target_linear": True}
    qlora = {**lora, "adapter": "qlora", "load_in_4bit": True}

    def most(cfg, gpus=1):
        return training_memory.training_need("", model, cfg, gpus, 64, dpo=True).most

    assert most(full) > most(lora) > most(qlora) > most({**qlora, "gradient_checkpointing": True})
    assert most(full) > most({**full, "optimizer": "adamw_bnb_8bit"})
    sharded = {**full, "fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}
    assert most(sharded, 4) < most(full, 4) / 2
    zero3 = {**full, "deepspeed": "yaml_examples/deepspeed/zero3.json"}
    offloaded = {**full, "deepspeed": "yaml_examples/deepspeed/zero3-offload-optimizer.json"}
    assert most(full, 4) > most(zero3, 4) > most(offloaded, 4)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [("adamw_torch", 4), ("adamw_torch_fused", 4), ("paged_adamw_32bit", 8), ("adamw_bnb_8bit", 2), ("sgd", 0),
     ("paged_adamw_8bit", 2), ("lion_8bit", 1), ("lion_32bit", 4), ("adafactor", 0.1), ("unheard_of", 4)],
)  # fmt: skip
def test_bytes_of_optimizers_for_a_number_in_bfloat16(optimizer, expected):
    assert training_memory.optimizer_bytes(optimizer, 2) == expected
