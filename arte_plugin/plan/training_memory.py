"""Peak memory of a device in a training, from the config alone."""

from collections.abc import Mapping
from typing import Any

from arte_plugin.plan.machine import Setup, accumulates, has_float32_weights, packing, setup_of
from arte_plugin.plan.memory import Need
from arte_plugin.plan.shapes import SIZES, Shape, inner_linears, on_meta

#: Bytes that an optimizer keeps for a trained number, by what its name begins with (`paged_` left out); None: twice
#: the number itself, as Adam's two moments in its precision.
_STATES = {
    "adamw_torch_8bit": 2.0, "adamw_torch_4bit": 1.0, "adamw_torch_fp8": 2.0, "adamw_torch": None,
    "adamw_bnb_8bit": 2.0, "adamw_8bit": 2.0, "adamw_32bit": 8.0, "adamw_apex": 8.0, "adamw": None,
    "lion_8bit": 1.0, "lion": 4.0, "ademamix_8bit": 3.0, "ademamix": 12.0, "rmsprop": 4.0, "adagrad": 4.0,
    "adafactor": 0.1, "sgd": 0.0, "came": 4.0, "muon": 4.0, "optimi_adamw": 6.0, "ao_adamw_8bit": 2.0,
    "ao_adamw_4bit": 1.0, "ao_adamw_fp8": 2.0,
}  # fmt: skip

#: Of weights, gradients and optimizer under ZeRO-3, in bytes a parameter (DeepSpeed, docs/code-docs/source/memory.rst).
_ZERO3, _ZERO3_OFFLOADED = 18.0, 2.0


def training_need(step: str, shape: Shape, cfg: Mapping[str, Any], gpus: int, usual: int, *, dpo: bool) -> Need:
    """A training: `cfg` has its Axolotl keys, `usual` is the usual length of its longer rows in tokens."""
    setup = setup_of(cfg, gpus)
    longest = int(cfg.get("sequence_len") or 512)
    lengths = (min(usual, longest), longest)
    stage = "align" if dpo else "sft"
    adapter, optimizer = cfg.get("adapter"), str(cfg.get("optimizer") or "adamw_torch_fused")
    model = _trained_model(shape, cfg, setup, shape.text.num_hidden_layers)
    trained = [one for one in model.parameters() if one.requires_grad]
    numbers, size = sum(one.numel() for one in trained), trained[0].element_size()
    weights = shape.weights(setup.dtype, packing(cfg))
    reference = 0.0 if adapter or not dpo else weights
    gradients, states = float(numbers * size), numbers * optimizer_bytes(optimizer, size)
    # Autocast keeps what it has made of the linear layers' weights for a step. Activations are counted in float32, a
    # little too many: those of the linear layers are in bfloat16.
    copies = float(shape.linear * SIZES["bfloat16"]) if has_float32_weights(cfg) else 0.0
    held = [_peak(shape, cfg, setup, tokens, dpo) + copies for tokens in lengths]
    if setup.pieces == 1:
        held = [one + (gradients if accumulates(cfg) else 0.0) for one in held]
        # The optimizer's step comes when activations are gone; PyTorch's AdamW needs a copy more for it.
        held = [max(one, gradients * (2 if optimizer == "adamw_torch" else 1)) for one in held]
        # Data parallelism sends gradients in buckets of their own.
        buckets = gradients if gpus > 1 else 0.0
        kept = states + buckets + reference + (gradients if adapter else 0.0)
        return Need(stage, step, shape.name, weights, kept, held[0], held[1], lengths)
    if setup.zero3 and not adapter:
        weights, kept = 0.0, numbers * (_ZERO3_OFFLOADED if setup.offloads else _ZERO3) + reference
    else:
        kept = (gradients if adapter else 0.0) + gradients + (0.0 if setup.offloads else states) + reference
    gathered = _gathered(model)
    return Need(
        stage,
        step,
        shape.name,
        weights / setup.pieces,
        kept / setup.pieces,
        held[0] + gathered,
        held[1] + gathered,
        lengths,
    )


def optimizer_bytes(name: str, size: int) -> float:
    """Bytes that an optimizer keeps for each trained number of `size` bytes."""
    name = name.removeprefix("paged_")
    found = max((known for known in _STATES if name.startswith(known)), key=len, default="adamw")
    states = _STATES[found]
    return 2.0 * size if states is None else states


def _trained_model(shape: Shape, cfg: Mapping[str, Any], setup: Setup, layers: int) -> Any:
    """With so many layers, on the meta device; the adapter's layers and the quantised ones are in their places."""
    import torch

    from arte_plugin.plan.stand_ins import LoraLinear, QuantisedLinear

    model = on_meta(shape.with_layers(layers), setup.dtype, setup.attention)
    adapter, packed = cfg.get("adapter"), packing(cfg)
    if not adapter:
        return model
    model.requires_grad_(False)
    wanted = None if cfg.get("lora_target_linear") else tuple(cfg.get("lora_target_modules") or ())
    for name, layer in inner_linears(model):
        parent, _, last = name.rpartition(".")
        made = QuantisedLinear(layer) if packed else layer
        if wanted is None or last in wanted or name in wanted:
            # In float32, on a quantised model too (`adapters.in_float32`).
            made = LoraLinear(made, int(cfg.get("lora_r") or 8), torch.float32)
        if made is not layer:
            setattr(model.get_submodule(parent), last, made)
    return model


def _peak(shape: Shape, cfg: Mapping[str, Any], setup: Setup, tokens: int, dpo: bool) -> float:
    """Beside weights, optimizer, and gradients of an earlier step."""
    from arte_plugin.plan import losses, trace

    def build(layers: int) -> tuple[Any, Any]:
        model, reference = _trained_model(shape, cfg, setup, layers), None
        if dpo and not cfg.get("adapter"):
            reference = on_meta(model.config, setup.dtype, setup.attention).eval().requires_grad_(False)
        return model, reference

    sharding = cfg.get("fsdp_config") or {}
    step = trace.Step(
        rows=int(cfg.get("micro_batch_size") or 1) * (2 if dpo else 1),
        tokens=tokens,
        checkpointing=bool(cfg.get("gradient_checkpointing") or sharding.get("activation_checkpointing")),
        mixed=setup.mixed,
        gives_gradients_away=setup.pieces > 1 or accumulates(cfg),
    )
    return trace.training(build, losses.dpo_loss if dpo else losses.sft_loss, step, shape.text.num_hidden_layers)


def _gathered(model: Any) -> float:
    """What sharded training puts together for a moment: the two largest pieces, that at work and the next."""
    sizes: dict[str, int] = {}
    for name, one in model.named_parameters():
        parts = name.split(".")
        place = next((".".join(parts[: i + 1]) for i, part in enumerate(parts) if part.isdigit()), parts[-2])
        sizes[place] = sizes.get(place, 0) + one.numel() * one.element_size()
    return sum(sorted(sizes.values())[-2:])
