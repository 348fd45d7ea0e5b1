"""Stage 5's own recipe: what the YAML leaves out of the teacher's training, filled in before Axolotl validates it."""

from collections.abc import Mapping
from typing import Any

from arte_plugin.errors import ConfigError
from arte_plugin.training.sharding import KEYS as SHARDING

#: Pairs to a step, over all processes (paper, section 4.1).
BATCH = 16

#: Whatever is trained. `sequence_len`: Axolotl's own default of 512 would leave out most question-level pairs.
RECIPE: dict[str, Any] = {"lr_scheduler": "cosine", "warmup_ratio": 0.1, "sequence_len": 2048, "micro_batch_size": 1}

#: The paper's, for a teacher that is trained in full (section 4.1).
FULL: dict[str, Any] = {"learning_rate": 1e-7, "num_epochs": 1}

#: For an adapter, on some hundred pairs: docs/recipes.md has the sweep.
ADAPTER: dict[str, Any] = {"learning_rate": 2e-4, "num_epochs": 3, "rl_beta": 0.1, "lora_r": 16, "lora_dropout": 0.0}

#: What `rl_beta` is by default for a loss that divides each log-ratio by its tokens (LN-DPO, 2407.15229): 0.1 would be
#: as little as 0.1 over a hundred tokens. Tulu 3 (2411.15124) trained with 5.
NORMED_BETA = 5.0
NORMED = "sigmoid_norm"

#: Adapters that this recipe is one for.
_LORA = ("lora", "qlora")

#: Keys of which one makes another one needless.
_INSTEAD = {
    "warmup_ratio": ("warmup_steps",),
    "num_epochs": ("max_steps",),
    "gradient_accumulation_steps": ("batch_size",),
    "lora_target_linear": ("lora_target_modules", "lora_target_parameters"),
}

#: The rate below which AdamW's steps are lost on most weights in bfloat16: beside a weight of 0.02 half a step of the
#: format is 4e-5.
LOWEST_BF16_RATE = 1e-5


def missing(cfg: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """What the recipe adds to the top-level keys of `cfg`, a YAML as it was written.

    `processes` is the number of those that the training is spread over. Nothing where no teacher is trained.
    """
    if _source(cfg):
        return {}
    adapter = cfg.get("adapter")
    recipe = RECIPE | (ADAPTER if adapter in _LORA else FULL if not adapter else {})
    if adapter in _LORA:
        recipe["lora_alpha"] = cfg.get("lora_r") or recipe["lora_r"]
        recipe["lora_target_linear"] = True
        if (cfg.get("trl") or {}).get("beta") is not None:
            del recipe["rl_beta"]
    if NORMED in (cfg.get("dpo_loss_type") or []) and (cfg.get("trl") or {}).get("beta") is None:
        recipe["rl_beta"] = NORMED_BETA
    together = max(1, int(cfg.get("micro_batch_size") or recipe["micro_batch_size"]) * _replicas(cfg, processes))
    recipe["gradient_accumulation_steps"] = max(1, round(BATCH / together))
    return {
        key: value
        for key, value in recipe.items()
        if all(cfg.get(one) is None for one in (key, *_INSTEAD.get(key, ())))
    }


def fill_in(cfg: Any, processes: int) -> dict[str, Any]:
    """Put what is missing into `cfg`, and into its `arte:` block what that was. Returns it."""
    added = missing(cfg, processes)
    for key, value in added.items():
        cfg[key] = value
    if added and cfg.get("arte"):
        cfg["arte"]["recipe"] = added
    return added


def as_line(added: Mapping[str, Any]) -> str:
    """What was filled in, for a reader of the YAML; nothing where nothing was."""
    if not added:
        return ""
    keys = ", ".join(f"{key}: {_shown(value)}" for key, value in added.items())
    return f"the teacher's training takes from its recipe what the YAML leaves out: {keys}"


def check_it_trains(cfg: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for a training of the teacher that could not change it; `cfg` is the whole of its keys."""
    if _source(cfg):
        return
    adapter = cfg.get("adapter")
    if adapter:
        if cfg.get("precompute_ref_log_probs") and _rounds(cfg) > 1:
            raise ConfigError(
                "`precompute_ref_log_probs` can't go with `arte.rounds`: TRL would compute them before the adapter of "
                "the round before is there, which is what a later round has for its reference. Take it out."
            )
        if not cfg.get("lora_r") and adapter not in _LORA:
            raise ConfigError(
                f"`adapter: {adapter}` needs a `lora_r` (its rank), and there is no recipe to take it from: set it, or "
                "use `adapter: lora` or `qlora`."
            )
        return
    rate = float(cfg.get("learning_rate") or FULL["learning_rate"])
    if rate >= LOWEST_BF16_RATE or not _in_bare_bf16(cfg):
        return
    raise ConfigError(
        "The teacher would hardly change: without an `adapter`, all of its weights are trained, here in bfloat16 "
        f"(`bf16: {_shown(cfg.get('bf16') or cfg.get('bfloat16'))}`), whose steps are far larger than what a "
        f"`learning_rate` of {_shown(rate)} adds to a weight, so that nearly every update is rounded away. Keep "
        "float32 weights beside them with `deepspeed:` or `fsdp_config:` (yaml_examples/paper-8x80gb.yaml); or train "
        "them in float32, computing in bfloat16: `bf16: false` and `plugins: [arte_plugin.ArtePlugin, "
        "arte_plugin.Float32Weights]`; or train an adapter: `adapter: lora`."
    )


def _in_bare_bf16(cfg: Mapping[str, Any]) -> bool:
    """Whether AdamW steps on weights in bfloat16, and nothing keeps what that loses."""
    if any(cfg.get(key) for key in SHARDING) or str(cfg.get("optimizer") or "").startswith("optimi_"):
        # DeepSpeed keeps float32 weights, accelerate turns FSDP's into such, and optimi sums what was rounded away.
        return False
    wanted = cfg.get("bf16")
    # Axolotl's default.
    if wanted == "auto" or (wanted is None and not any(cfg.get(key) for key in ("bfloat16", "fp16", "float16"))):
        from arte_plugin.training import child

        return child.gpus() > 0
    return bool(wanted or cfg.get("bfloat16"))


def _replicas(cfg: Mapping[str, Any], processes: int) -> int:
    """How many processes take pairs of their own."""
    if cfg.get("use_ray"):
        processes = int(cfg.get("ray_num_workers") or 1)
    shared = int(cfg.get("context_parallel_size") or 1) * int(cfg.get("tensor_parallel_size") or 1)
    return max(1, processes // shared)


def _source(cfg: Mapping[str, Any]) -> Any:
    """The run that the teacher comes aligned from."""
    arte = cfg.get("arte")
    return arte.get("from_run") if isinstance(arte, Mapping) else getattr(arte, "from_run", None)


def _rounds(cfg: Mapping[str, Any]) -> int:
    arte = cfg.get("arte")
    return int((arte.get("rounds") if isinstance(arte, Mapping) else getattr(arte, "rounds", None)) or 1)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
