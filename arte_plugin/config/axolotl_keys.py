"""Which of Axolotl's keys decide what a model is once trained, and which decide what it answers.

Told by what is known to be harmless: a key that nobody here has heard of counts once it is set. Keys at the installed
Axolotl's default never count, so that an upgrade which brings more of them redoes nothing.
"""

import functools
from collections.abc import Mapping
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from arte_plugin.config.entries import is_arte

#: Records, publishes, measures or speeds up a training, or places it on a machine; its outcome is the same.
_BESIDE_TRAINING = (
    # Where it is told of
    "wandb_*", "use_wandb", "mlflow_*", "hf_mlflow_*", "use_mlflow", "comet_*", "use_comet", "trackio_*", "use_trackio",
    "swanlab_*", "use_swanlab", "use_tensorboard", "otel_*", "use_otel_metrics", "logging_*", "include_tkps",
    "include_tokens_per_second", "profiler_*", "sync_profiler_*", "gradio_*", "hub_*", "push_*", "export",
    "hf_use_auth_token",
    # What is kept of it, and where
    "save_*", "saves_per_epoch", "output_dir", "dynamic_checkpoint", "resume_from_checkpoint",
    "auto_resume_from_checkpoints", "tokenizer_save_jinja_files", "merge_lora", "merge_method",
    # Looking at it meanwhile
    "eval_*", "evals_per_epoch", "evaluation_strategy", "do_causal_lm_eval", "do_bench_eval", "bench_*",
    "metric_for_best_model", "greater_is_better",
    # How the data comes in; what it is, counts
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "dataset_num_proc",
    "dataset_processes", "dataset_prepared_path", "dataset_keep_in_memory", "num_dataset_shards_to_save",
    "excess_length_strategy", "is_preprocess", "preprocess_iterable", "sample_packing_mp_start_method",
    "total_num_tokens", "total_supervised_tokens", "sample_packing_eff_est",
    # The machine, and the memory on it
    "device", "device_map", "world_size", "local_rank", "ddp", "ddp_*", "use_ray", "ray_*", "resources_per_worker",
    "dp_*", "context_parallel_size", "tensor_parallel_size", "sequence_parallel_degree", "heads_k_stride",
    "ring_attn_func", "capabilities", "env_capabilities", "max_memory", "gpu_memory_limit", "low_cpu_mem_usage",
    "lora_on_cpu", "gc_steps", "gc_collect_steps", "torch_empty_cache_steps", "gradient_checkpointing",
    "gradient_checkpointing_kwargs", "selective_checkpointing", "activation_offloading", "layer_offloading",
    "ple_cpu_offload", "qlora_sharded_model_loading", "experimental_skip_move_to_device", "vllm",
    # The config itself
    "arte", "axolotl_config_path", "debug", "strict",
    # Set by Axolotl: from `attn_implementation`, from the model's config, and guessed from its name
    "attn_supports_packing", "attn_decontaminates_packing", "attn_uses_flash_lib", "attn_needs_dtype_cast",
    "model_config_type", "model_config_type_text", "is_multimodal", "processor_config", "is_*_derived_model",
)  # fmt: skip

#: These decide which weights a training ends with, where it may choose among those on the way.
_CHOOSES = ("load_best_model_at_end", "early_stopping_patience")
_OF_THE_CHOICE = (
    "save_*", "saves_per_epoch", "eval_*", "evals_per_epoch", "evaluation_strategy", "metric_for_best_model",
    "greater_is_better",
)  # fmt: skip

#: The model itself, which counts by its content, whatever its name is.
_MODEL = ("base_model", "revision_of_model")

#: Trains a model, and has no say in what it answers before or afterwards.
_OF_TRAINING = (
    # The optimiser and its schedule
    "learning_rate", "embedding_lr", "embedding_lr_scale", "lr_*", "loraplus_*", "weight_decay", "optimizer", "optim_*",
    "torchdistx_path", "cosine_*", "adam_*", "dion_*", "qgalore_*", "max_grad_norm", "num_epochs", "max_steps",
    "warmup_*", "jagged_*", "relora", "relora_*", "micro_batch_size", "gradient_accumulation_steps", "batch_size",
    "auto_find_batch_size", "lisa_*", "neftune_noise_alpha", "noisy_embedding_alpha", "unfrozen_parameters",
    "freeze_mm_modules", "fix_untrained_tokens", "full_determinism", "seed", "use_dft", "use_eaft", "eaft_*",
    "load_best_model_at_end", "early_stopping_patience", "loss_watchdog_*", "logging_nan_inf_filter", "trainer_cls",
    "deepspeed", "deepcompile", "fsdp", "fsdp_*", "accelerator_config", "torch_compile", "torch_compile_*",
    "chunked_cross_entropy*", "flash_attn_cross_entropy", "generate_samples",
    "num_generation_samples", "generation_*", "fp8_enable_fsdp_float8_all_gather",
    # The loss
    "rl", "rl_beta", "trl", "dpo_*", "orpo_*", "rpo_*", "simpo_*", "cpo_*", "kto_*", "ebft", "precompute_ref_log_probs",
    "reward_model", "process_reward_model", "center_rewards_coefficient", "num_labels", "diffusion_lm",
    # The data, and its way into batches. Positions are rotary: a longer `sequence_len` moves none.
    "datasets", "test_datasets", "pretraining_dataset", "shuffle_*", "val_set_size", "dataset_*",
    "dataloader_drop_last", "skip_prepare_dataset", "remove_unused_columns", "train_on_inputs", "role_boundaries",
    "group_by_length", "curriculum_sampling", "sequence_len", "min_sample_len", "max_prompt_len",
    "max_packed_sequence_len",
    "sample_packing", "sample_packing_*", "multipack_*", "batch_flattening", "pad_to_*", "pretrain_multipack_*",
    "pretraining_sample_concatenation", "streaming", "streaming_*", "pose_*", "use_pose", "balance_labels",
    "label_balance_*", "fa_varlen_kwargs_in_collator",
    # The adapter, whose own config and weights tell all; a fresh one is taken off
    "adapter", "lora_*", "peft", "peft_*", "mixlora_*", "nvfp4_merge_aware",
    # Told by the model's dtype, and by the GPU
    "bf16", "fp16", "fp8", "fp8_config", "bfloat16", "float16", "float32", "tf32",
    # Told by the tokenizer as it comes out
    "tokenizer_*", "special_tokens", "tokens", "added_tokens_overrides", "chat_template", "chat_template_*",
    "default_system_message", "eot_tokens", "processor_type", "processor_kwargs", "image_*",
)  # fmt: skip


def of_training(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a teacher's config that decide what its training comes to, with their values, the model left out."""
    counts = _OF_THE_CHOICE if any(cfg.get(key) for key in _CHOOSES) else ()
    harmless = (*_MODEL, *_BESIDE_TRAINING)
    return {key: value for key, value in _set(cfg).items() if not _is_one(key, harmless) or _is_one(key, counts)}


def of_generation(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a teacher's config that decide what it answers, with their values, the model left out."""
    harmless = (*_MODEL, *_BESIDE_TRAINING, *_OF_TRAINING)
    return {key: value for key, value in _set(cfg).items() if not _is_one(key, harmless)}


def _is_one(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _set(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says beyond Axolotl's defaults. Axolotl names the model's config and tokenizer itself."""
    defaults = _defaults()
    found = {}
    for key, value in cfg.items():
        if key == "plugins":
            # Any other than this one may have a say, such as `Float32Weights`.
            value = [name for name in value or [] if not is_arte(name)] or None
        own_name = key in ("base_model_config", "tokenizer_config") and value == cfg.get("base_model")
        if not own_name and (rest := _beyond(value, defaults.get(key))) is not None:
            found[key] = rest
    return found


def _beyond(value: Any, default: Any) -> Any:
    """`value`, or None where it says nothing but `default`; of a block, the keys that say more."""
    value, default = (one.value if isinstance(one, Enum) else one for one in (value, default))
    if isinstance(value, Mapping):
        block = default if isinstance(default, Mapping) else {}
        rest = {key: more for key, one in value.items() if (more := _beyond(one, block.get(key))) is not None}
        return rest or None
    # Of a switch, "off" and "not set" are one.
    return None if value == default or (value is False and default is None) else value


@functools.cache
def _defaults() -> dict[str, Any]:
    """Of all of Axolotl's keys, and those of the plugins that are loaded."""
    from axolotl.integrations.config import merge_input_args
    from pydantic import BaseModel

    _, schema = merge_input_args()
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in schema.model_fields.items()
        if not field.is_required()
    }
    return {key: one.model_dump() if isinstance(one, BaseModel) else one for key, one in defaults.items()}
