"""Stage 5's own recipe: what the YAML leaves out is filled in, and what can't train is refused."""

import pytest

from arte_plugin.errors import ConfigError
from arte_plugin.training import child
from arte_plugin.training.teacher_recipe import BATCH, as_line, check_it_trains, fill_in, missing

BARE = {"base_model": "teacher", "rl": "dpo", "arte": {"tasks": []}}
LORA = BARE | {"adapter": "lora"}


def test_full_fine_tuning_is_the_papers():
    added = missing(BARE, processes=1)
    assert (added["learning_rate"], added["num_epochs"]) == (1e-7, 1)
    assert (added["lr_scheduler"], added["warmup_ratio"]) == ("cosine", 0.1)
    assert not [key for key in added if key.startswith("lora")]


@pytest.mark.parametrize("adapter", ["lora", "qlora"])
def test_adapter_has_a_recipe_of_its_own(adapter):
    added = missing(BARE | {"adapter": adapter}, processes=1)
    assert added["learning_rate"] >= 1e-4
    assert added["lora_r"] == added["lora_alpha"] == 16
    assert added["lora_target_linear"] is True


@pytest.mark.parametrize(("micro", "processes"), [(1, 1), (1, 8), (4, 2), (None, 4), (16, 1), (8, 4)])
def test_batch_over_all_processes(micro, processes):
    cfg = LORA if micro is None else LORA | {"micro_batch_size": micro}
    whole = cfg | missing(cfg, processes)
    together = whole["micro_batch_size"] * whole["gradient_accumulation_steps"] * processes
    assert together == max(BATCH, (micro or 1) * processes)


def test_processes_that_share_a_pair_count_once():
    cfg = LORA | {"context_parallel_size": 2}
    assert missing(cfg, processes=8)["gradient_accumulation_steps"] == 4


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        ({"learning_rate": 5e-6}, "learning_rate"),
        ({"warmup_steps": 3}, "warmup_ratio"),
        ({"max_steps": 10}, "num_epochs"),
        ({"batch_size": 32}, "gradient_accumulation_steps"),
        ({"lora_target_modules": ["q_proj"]}, "lora_target_linear"),
        ({"trl": {"beta": 0.3}}, "rl_beta"),
        ({"warmup_ratio": 0.0}, "warmup_ratio"),
    ],
)
def test_what_is_said_stays(given, absent):
    assert absent in missing(LORA, 1)
    assert absent not in missing(LORA | given, 1)


def test_alpha_goes_by_the_rank_that_is_given():
    assert missing(LORA | {"lora_r": 64}, 1)["lora_alpha"] == 64


def test_nothing_is_filled_in_for_a_teacher_that_comes_aligned():
    cfg = LORA | {"arte": {"from_run": "outputs/other"}}
    assert missing(cfg, 1) == {}
    check_it_trains(cfg | {"adapter": None, "bf16": True, "learning_rate": 1e-7})


def test_what_was_filled_in_is_kept_and_told():
    cfg = {**LORA, "arte": {"tasks": []}, "learning_rate": 1e-4}
    added = fill_in(cfg, 1)
    assert cfg["arte"]["recipe"] == added and "learning_rate" not in added
    assert cfg["gradient_accumulation_steps"] == 16
    line = as_line(added)
    assert "num_epochs: 3" in line and "lora_target_linear: true" in line
    assert fill_in(cfg, 1) == {}


@pytest.mark.parametrize("bf16", [{"bf16": True}, {"bfloat16": True, "bf16": False}])
def test_full_fine_tuning_in_bare_bf16_is_refused(bf16):
    with pytest.raises(ConfigError, match=r"learning_rate` of 1e-07 .*Float32Weights"):
        check_it_trains(BARE | bf16 | {"learning_rate": 1e-7})
    with pytest.raises(ConfigError, match="hardly change"):
        check_it_trains(BARE | bf16)


@pytest.mark.parametrize(
    "way_out",
    [
        {"deepspeed": "zero2.json"}, {"fsdp_config": {"reshard_after_forward": True}}, {"learning_rate": 2e-5},
        {"bf16": False}, {"adapter": "lora"}, {"optimizer": "optimi_adamw"},
    ],
)  # fmt: skip
def test_ways_out_of_bare_bf16(way_out):
    check_it_trains(BARE | {"bf16": True, "learning_rate": 1e-7} | way_out)


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("bf16", [{}, {"bf16": "auto"}])
def test_axolotls_default_is_bf16_where_there_is_a_gpu(gpus, bf16, monkeypatch):
    monkeypatch.setattr(child, "gpus", lambda: gpus)
    if gpus:
        with pytest.raises(ConfigError, match="hardly change"):
            check_it_trains(BARE | bf16)
    else:
        check_it_trains(BARE | bf16)


def test_adapter_without_a_rank_is_refused_where_no_recipe_has_one():
    check_it_trains(LORA)
    with pytest.raises(ConfigError, match="needs a `lora_r`"):
        check_it_trains(BARE | {"adapter": "llama-adapter"})
    check_it_trains(BARE | {"adapter": "llama-adapter", "lora_r": 8})


def test_the_reference_of_a_later_round_can_not_be_computed_beforehand():
    check_it_trains(LORA | {"precompute_ref_log_probs": True})
    with pytest.raises(ConfigError, match=r"can't go with `arte\.rounds`"):
        check_it_trains(LORA | {"precompute_ref_log_probs": True, "arte": {"rounds": 2}})
