"""Which of Axolotl's keys decide what: over the whole schema of the installed version."""

from typing import Any

import pytest
import torch

from arte_plugin.config import axolotl_keys
from arte_plugin.config.axolotl_keys import of_generation, of_training

BASE = {"base_model": "teacher", "rl": "dpo", "adapter": "lora", "lora_r": 8, "learning_rate": 1e-4}

#: Records, publishes, places or looks at a training.
HARMLESS: dict[str, Any] = {
    "wandb_project": "mine", "wandb_name": "a", "wandb_mode": "offline", "use_wandb": True, "mlflow_run_name": "a",
    "mlflow_tracking_uri": "http://here", "hf_mlflow_log_artifacts": True, "comet_project_name": "mine",
    "trackio_run_name": "a", "use_tensorboard": True, "use_otel_metrics": True, "otel_metrics_port": 9,
    "logging_steps": 2, "include_tokens_per_second": True, "include_tkps": False, "profiler_steps": 3,
    "hub_model_id": "me/mine", "hub_strategy": "end", "push_dataset_to_hub": "me/mine", "save_steps": 5,
    "save_strategy": "epoch", "save_total_limit": 1, "saves_per_epoch": 2, "save_only_model": True,
    "save_safetensors": False, "save_first_step": True, "eval_steps": 5, "evals_per_epoch": 1, "eval_batch_size": 7,
    "dataloader_num_workers": 0, "dataloader_pin_memory": False, "dataloader_prefetch_factor": 4,
    "dataset_num_proc": 9, "dataset_processes": 9, "dataset_prepared_path": "there", "output_dir": "elsewhere",
    "resume_from_checkpoint": "c", "auto_resume_from_checkpoints": True, "gradient_checkpointing": True,
    "activation_offloading": True, "gc_steps": 4, "ddp_timeout": 99, "world_size": 4, "local_rank": 3, "use_ray": True,
    "ray_num_workers": 4, "device_map": "cpu", "max_memory": {"0": "1GB"}, "gpu_memory_limit": 20, "strict": True,
    "capabilities": {"n_gpu": 8}, "env_capabilities": {"torch_version": "9"}, "axolotl_config_path": "a.yaml",
    "hf_use_auth_token": True, "plugins": ["arte_plugin.ArtePlugin"], "vllm": {"port": 1},
    "is_llama_derived_model": True, "base_model_config": "teacher", "tokenizer_config": "teacher",
}  # fmt: skip

#: Decides the training, and not what the teacher answers before.
OF_TRAINING: dict[str, Any] = {
    "learning_rate": 2e-4, "num_epochs": 3, "max_steps": 9, "micro_batch_size": 7, "gradient_accumulation_steps": 4,
    "optimizer": "adafactor", "lr_scheduler": "linear", "warmup_ratio": 0.2, "warmup_steps": 3, "weight_decay": 0.1,
    "max_grad_norm": 0.5, "adam_beta2": 0.9, "lora_r": 16, "lora_alpha": 64, "lora_dropout": 0.1,
    "lora_target_modules": ["q_proj"], "peft_use_dora": True, "adapter": "qlora", "rl": "ipo", "rl_beta": 0.3,
    "dpo_norm_loss": True, "dpo_label_smoothing": 0.1, "trl": {"beta": 0.2}, "seed": 7, "sequence_len": 4096,
    "val_set_size": 0.1, "datasets": [{"path": "other.jsonl"}], "dataloader_drop_last": True, "bf16": True,
    "neftune_noise_alpha": 5, "load_best_model_at_end": True, "torch_compile": True, "group_by_length": True,
    "shuffle_merged_datasets": False, "chat_template": "chatml", "special_tokens": {"pad_token": "<pad>"},
    "base_model_config": "another", "tokenizer_config": "another",
}  # fmt: skip

#: Decides what the teacher answers, and so its training too.
OF_GENERATION: dict[str, Any] = {
    "overrides_of_model_config": {"rope_scaling": {"type": "yarn", "factor": 4}},
    "overrides_of_model_kwargs": {"use_flash_attn": True}, "model_quantization_config": "Mxfp4Config",
    "model_quantization_config_kwargs": {"dequantize": True}, "quantize_moe_experts": True, "load_in_4bit": True,
    "load_in_8bit": True, "bnb_config_kwargs": {"bnb_4bit_quant_type": "fp4"}, "gptq": True, "nf4_backend": "other",
    "attn_implementation": "eager", "torch_dtype": torch.bfloat16, "trust_remote_code": True, "rope_scaling": {"f": 2},
    "type_of_model": "MyModel", "use_kernels": True, "experts_implementation": "grouped_mm", "scaling_softmax": True,
    "fp32_norms": True, "reinit_weights": True, "resize_token_embeddings_to_32x": True, "liger_rope": True,
    "a_key_of_next_year": "on", "plugins": ["arte_plugin.ArtePlugin", "arte_plugin.Float32Weights"],
}  # fmt: skip


def keys(of, change: dict[str, Any]) -> Any:
    return of({**BASE, **change})


@pytest.mark.parametrize("key", HARMLESS)
def test_what_does_not_change_the_outcome_redoes_nothing(key):
    change = {key: HARMLESS[key]}
    assert keys(of_training, change) == keys(of_training, {})
    assert keys(of_generation, change) == keys(of_generation, {})


@pytest.mark.parametrize("key", OF_TRAINING)
def test_what_decides_the_training_trains_again(key):
    assert keys(of_training, {key: OF_TRAINING[key]}) != keys(of_training, {})
    if key not in ("base_model_config",):
        assert keys(of_generation, {key: OF_TRAINING[key]}) == keys(of_generation, {}), "the drafts are the same"


@pytest.mark.parametrize("key", OF_GENERATION)
def test_what_decides_the_answers_asks_and_trains_again(key):
    for of in (of_training, of_generation):
        assert keys(of, {key: OF_GENERATION[key]}) != keys(of, {})


def _schema() -> dict[str, Any]:
    axolotl_keys._defaults.cache_clear()
    return axolotl_keys._defaults()


@pytest.mark.parametrize("of", [of_training, of_generation])
def test_an_upgrade_that_adds_keys_at_their_default_redoes_nothing(of):
    defaults = _schema()
    assert len(defaults) > 300
    assert of({**defaults, **BASE}) == of(BASE)
    switched_off = {key: False for key, value in defaults.items() if value is None and key not in BASE}
    assert of({**switched_off, **BASE}) == of(BASE)


def test_every_pattern_means_a_key():
    """One that means none hides nothing today, and whatever comes tomorrow."""
    ours = {"arte", "world_size", "capabilities", "env_capabilities", "debug", "torch_dtype", "device", "local_rank"}
    derived = {"attn_supports_packing", "attn_decontaminates_packing", "attn_uses_flash_lib", "attn_needs_dtype_cast",
               "model_config_type", "model_config_type_text", "is_multimodal", "processor_config"}  # fmt: skip
    #: Of a later Axolotl than the oldest that is supported, of its plugins, or of an earlier one.
    elsewhere = {"export", "sync_profiler_*", "swanlab_*", "use_swanlab", "logging_nan_inf_filter", "full_determinism",
                 "use_dft", "diffusion_lm", "balance_labels", "label_balance_*", "fa_varlen_kwargs_in_collator",
                 "mixlora_*", "nvfp4_merge_aware", "fsdp"}  # fmt: skip
    known = set(_schema()) | {"base_model", "learning_rate"} | ours | derived
    patterns = {*axolotl_keys._BESIDE_TRAINING, *axolotl_keys._OF_TRAINING, *axolotl_keys._MODEL} - elsewhere
    assert [one for one in sorted(patterns) if not any(axolotl_keys._is_one(key, (one,)) for key in known)] == []


def test_where_the_best_of_several_weights_is_taken_saving_and_evaluating_decide():
    chosen = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_steps": 5}
    assert keys(of_training, {**chosen, "eval_steps": 9}) != keys(of_training, chosen)
    assert keys(of_training, {**chosen, "save_steps": 9}) != keys(of_training, chosen)
    assert keys(of_training, {**chosen, "wandb_project": "mine"}) == keys(of_training, chosen)


def test_a_block_counts_by_what_it_says_beyond_the_defaults():
    default = _schema()["trl"]
    assert of_training({**BASE, "trl": {**default, "beta": 0.2}})["trl"] == {"beta": 0.2}
    assert "trl" not in of_training({**BASE, "trl": default})
