"""Training on from an adapter: the teacher of a later round is that of the round before, and so is its reference."""

from pathlib import Path
from typing import Any

from arte_plugin.errors import StageError


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
