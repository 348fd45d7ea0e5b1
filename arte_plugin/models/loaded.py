"""What a loaded model really is, for the manifest: a config only says what was asked for."""

from collections import Counter
from typing import Any


def describe_model(model: Any) -> dict[str, Any]:
    """Attention, precision, device, and the linear layers by type; of 4-bit weights, their kind.

    `model` is a transformers model, or a PEFT one around it. The output layer, which no quantisation touches, and
    what an adapter adds are not among the linear layers.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    linear: Counter[str] = Counter()
    quantised: Counter[tuple[str, bool, int]] = Counter()
    adapters = 0
    for name, module in base.named_modules():
        if hasattr(module, "base_layer"):
            adapters += 1
        elif "Linear" in type(module).__name__ and module is not head and ".lora_" not in name:
            linear[type(module).__name__] += 1
            # Only what has been put on its device is quantised.
            if (state := getattr(module.weight, "quant_state", None)) is not None:
                quantised[state.quant_type, bool(state.nested), state.blocksize] += 1
    found: dict[str, Any] = {
        "attention": base.config._attn_implementation,
        "dtype": str(base.dtype).removeprefix("torch."),
        "device": base.device.type,
        "parameters": sum(_entries(parameter) for parameter in base.parameters()),
        "linear": dict(linear.most_common()),
        "adapted": adapters,
    }
    if quantised:
        found["four_bit"] = [
            {"kind": kind, "double": double, "block": block, "layers": layers}
            for (kind, double, block), layers in quantised.most_common()
        ]
    return found


def _entries(parameter: Any) -> int:
    """How many numbers a parameter stands for: packed ones are fewer than they seem."""
    state = getattr(parameter, "quant_state", None)
    return state.shape.numel() if state is not None else parameter.numel()
