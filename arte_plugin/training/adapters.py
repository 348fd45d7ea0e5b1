"""The teacher's adapter as it is trained: in float32, and in a later round from where the round before left it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arte_plugin.errors import StageError
from arte_plugin.training.sharding import KEYS as SHARDING

#: What turns an adapter's weights to bfloat16 in TRL: these in Axolotl's config.
_QUANTISED = ("load_in_4bit", "load_in_8bit")


def training(cfg: Mapping[str, Any]) -> dict[str, str]:
    """What decides an adapter's training beside the keys of `cfg`: the precision of its weights, on a quantised base.

    Elsewhere they have always been in float32. Sharding has no say: a command in one process goes on with the teacher.
    """
    return {"adapter_weights": "float32"} if cfg.get("adapter") and any(cfg.get(key) for key in _QUANTISED) else {}


def in_float32(trainer: Any, cfg: Mapping[str, Any]) -> None:
    """Train the adapter of a quantised model in float32, as PEFT has it on any other, and not in bfloat16 as TRL does.

    The weights of a LoRA A are within 1/64 for 4,096 inputs, where half a step of bfloat16 is 3e-5: of smaller updates
    nearly all would be rounded away. Autocast computes in bfloat16 all the same. Under FSDP, which wants one precision,
    accelerate turns what is trained into float32 itself, and DeepSpeed keeps float32 copies.
    """
    import torch

    if any(cfg.get(key) for key in SHARDING):
        return
    for name, parameter in trainer.accelerator.unwrap_model(trainer.model).named_parameters():
        if parameter.requires_grad and ".lora_" in name and parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.to(torch.float32)


def train_on(trainer: Any, adapter: str | Path) -> None:
    """Put the weights of `adapter` into the fresh one that TRL's DPO `trainer` has, and into its reference.

    TRL takes the base below the adapter for the reference, unless there is an adapter called "ref". Nothing is merged:
    in bfloat16 that would lose most of a small update, and in 4 bits add noise of several times its size.
    Raises `StageError` for an adapter that does not belong on the trained layers.
    """
    from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict

    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = load_peft_weights(str(adapter), device="cpu")
    config, earlier = model.peft_config["default"], LoraConfig.from_pretrained(str(adapter))
    trained = {
        name.replace(".default.", "."): one.shape for name, one in model.named_parameters() if ".default." in name
    }
    scales = [(one.lora_alpha, one.use_rslora) for one in (config, earlier)]
    if trained != {name: one.shape for name, one in weights.items()} or scales[0] != scales[1]:
        raise StageError(
            f"The adapter in {adapter} (`lora_r: {earlier.r}`, `lora_alpha: {earlier.lora_alpha}`) doesn't fit what "
            f"this YAML trains (`lora_r: {config.r}`, `lora_alpha: {config.lora_alpha}`). Keep these, "
            "`lora_target_linear` and `lora_target_modules` as they were when it was trained."
        )
    set_peft_model_state_dict(model, weights, adapter_name="default")
    model.add_adapter("ref", config)
    for name, parameter in model.named_parameters():
        if ".default." in name:
            copy = model.get_parameter(name.replace(".default.", ".ref."))
            copy.data = parameter.data.clone()
            copy.requires_grad_(False)
    model.set_adapter("default")
