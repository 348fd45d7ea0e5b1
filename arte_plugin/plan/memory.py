"""Peak memory of a device in each step, from the config alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from arte_plugin.args import ArteArgs, StudentArgs
from arte_plugin.plan.shapes import INT8, NF4, NF4_DOUBLE, SIZES, Shape, inner_linears, on_meta

GIB = 2**30

#: Bytes that an optimizer keeps for a trained number, by what its name begins with (`paged_` left out); None: twice
#: the number itself, as Adam's two moments in its precision.
_STATES = {
    "adamw_torch_8bit": 2.0, "adamw_torch_4bit": 1.0, "adamw_torch_fp8": 2.0, "adamw_torch": None,
    "adamw_bnb_8bit": 2.0, "adamw_8bit": 2.0, "adamw_32bit": 8.0, "adamw_apex": 8.0, "adamw": None,
    "lion_8bit": 1.0, "lion": 4.0, "ademamix_8bit": 3.0, "ademamix": 12.0, "rmsprop": 4.0, "adagrad": 4.0,
    "adafactor": 0.1, "sgd": 0.0, "came": 4.0, "muon": 4.0, "optimi_adamw": 4.0, "ao_adamw_8bit": 2.0,
    "ao_adamw_4bit": 1.0, "ao_adamw_fp8": 2.0,
}  # fmt: skip

#: Of weights, gradients and optimizer under ZeRO-3, in bytes a parameter (DeepSpeed, docs/code-docs/source/memory.rst).
_ZERO3, _ZERO3_OFFLOADED = 18.0, 2.0


@dataclass(frozen=True)
class Need:
    """What one step holds on each device, in bytes."""

    step: str
    model: str
    weights: float
    #: Adapter, gradients kept from step to step, optimizer, a second reference model.
    states: float
    #: Activations, logits, gradients on their way, keys and values: at the usual length, and at the longest.
    usual: float
    longest: float
    note: str = ""

    @property
    def total(self) -> float:
        """At the usual length."""
        return self.weights + self.states + self.usual

    @property
    def most(self) -> float:
        """At the longest."""
        return self.weights + self.states + self.longest


@dataclass(frozen=True)
class Setup:
    """How a training run sees the machine, out of Axolotl's keys."""

    dtype: str
    #: Autocast: logits are turned into float32 behind the model.
    mixed: bool
    attention: str
    #: Weights, gradients and optimizer lie in pieces on so many devices.
    pieces: int
    zero3: bool
    offloads: bool


def setup_of(cfg: Mapping[str, Any], gpus: int) -> Setup:
    """Of the teacher's training, or the student's, by its Axolotl keys."""
    from arte_plugin.plan import trace

    half = "bfloat16" if cfg.get("bf16") or cfg.get("bfloat16") else "float16" if _half(cfg) else "float32"
    flash = "flash" in str(cfg.get("attn_implementation") or "") or cfg.get("flash_attention")
    zero = _deepspeed(cfg)
    stage = int(zero.get("stage", 0) or 0)
    pieces = gpus if stage == 3 or cfg.get("fsdp") or cfg.get("fsdp_config") or cfg.get("fsdp_version") else 1
    return Setup(
        dtype=half,
        mixed=bool(cfg.get("bf16") or cfg.get("fp16")) and not zero,
        attention=trace.GROUPED if flash else trace.REPEATED,
        pieces=pieces,
        zero3=stage == 3,
        offloads=str((zero.get("offload_optimizer") or {}).get("device", "none")) != "none",
    )


def _half(cfg: Mapping[str, Any]) -> bool:
    return bool(cfg.get("fp16") or cfg.get("float16"))


def _deepspeed(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `zero_optimization` block of the DeepSpeed config, if there is one to be read."""
    content = cfg.get("deepspeed")
    if isinstance(content, str) and Path(content).is_file():
        content = json.loads(Path(content).read_text(encoding="utf-8"))
    return content.get("zero_optimization") or {} if isinstance(content, Mapping) else {}


def training_need(step: str, shape: Shape, cfg: Mapping[str, Any], gpus: int, usual: int, *, dpo: bool) -> Need:
    """A training: `cfg` has its Axolotl keys, `usual` is the usual length of its longer rows in tokens."""
    setup = setup_of(cfg, gpus)
    longest = int(cfg.get("sequence_len") or 512)
    rows = int(cfg.get("micro_batch_size") or 1) * (2 if dpo else 1)
    accumulates = int(cfg.get("gradient_accumulation_steps") or 1) > 1
    adapter = cfg.get("adapter")
    packed = packing(cfg)
    model = _trained_model(shape, cfg, setup)
    trained = [one for one in model.parameters() if one.requires_grad]
    numbers = sum(one.numel() for one in trained)
    size = trained[0].element_size()
    weights = shape.weights(setup.dtype, packed)
    # A sharded training gives a layer's gradients away as soon as they are there.
    held = [_peak(model, cfg, setup, rows, tokens, accumulates, dpo) for tokens in (min(usual, longest), longest)]
    gradients, states = (
        numbers * size,
        numbers * optimizer_bytes(str(cfg.get("optimizer") or "adamw_torch_fused"), size),
    )
    adapter_bytes = gradients if adapter else 0.0
    step_extra = gradients if str(cfg.get("optimizer") or "") == "adamw_torch" else 0.0
    reference = 0.0 if adapter or not dpo else weights
    if setup.zero3 and not adapter:
        per_number = _ZERO3_OFFLOADED if setup.offloads else _ZERO3
        fixed = shape.parameters * per_number / setup.pieces
        return Need(
            step, shape.name, 0.0, fixed + reference / setup.pieces + _gathered(model), *held, _note(setup, longest)
        )
    if setup.pieces > 1:
        fixed = (adapter_bytes + gradients + (0.0 if setup.offloads else states) + reference) / setup.pieces
        return Need(step, shape.name, weights / setup.pieces, fixed + _gathered(model), *held, _note(setup, longest))
    # Gradients are in what is held; but the optimizer's step comes when the activations are gone.
    held = [max(one, gradients + step_extra) for one in held]
    if gpus > 1:
        # Data parallelism sends gradients in buckets of their own.
        states += gradients
    return Need(step, shape.name, weights, adapter_bytes + states + reference, *held, _note(setup, longest))


def _note(setup: Setup, longest: int) -> str:
    return f"sharded over {setup.pieces}" if setup.pieces > 1 else ""


def packing(cfg: Mapping[str, Any]) -> float | None:
    """Bytes of a weight in a linear layer where Axolotl quantises it: with QLoRA and LoRA only."""
    if cfg.get("load_in_4bit") and cfg.get("adapter") == "qlora":
        double = (cfg.get("bnb_config_kwargs") or {}).get("bnb_4bit_use_double_quant", True)
        return NF4_DOUBLE if double else NF4
    if cfg.get("load_in_8bit") and cfg.get("adapter") == "lora":
        return INT8
    return None


def optimizer_bytes(name: str, size: int) -> float:
    """Bytes that an optimizer keeps for each trained number of `size` bytes."""
    name = name.removeprefix("paged_")
    found = max((known for known in _STATES if name.startswith(known)), key=len, default="adamw")
    states = _STATES[found]
    return 2.0 * size if states is None else states


def _trained_model(shape: Shape, cfg: Mapping[str, Any], setup: Setup) -> Any:
    """On the meta device, with the adapter's layers and the quantised ones in their places."""
    import torch

    from arte_plugin.plan import trace

    model = on_meta(shape.config, setup.dtype, setup.attention)
    adapter, packed = cfg.get("adapter"), packing(cfg)
    if not adapter:
        return model
    model.requires_grad_(False)
    # TRL keeps the adapter of a quantised model in bfloat16, PEFT that of any other in float32.
    dtype = torch.bfloat16 if packed else torch.float32
    wanted = None if cfg.get("lora_target_linear") else tuple(cfg.get("lora_target_modules") or ())
    for name, layer in inner_linears(model):
        parent, _, last = name.rpartition(".")
        made = trace.QuantisedLinear(layer) if packed else layer
        if wanted is None or last in wanted or name in wanted:
            made = trace.LoraLinear(made, int(cfg.get("lora_r") or 8), dtype)
        if made is not layer:
            setattr(model.get_submodule(parent), last, made)
    return model


def _peak(
    model: Any, cfg: Mapping[str, Any], setup: Setup, rows: int, tokens: int, accumulates: bool, dpo: bool
) -> float:
    from arte_plugin.plan import trace

    checkpointing = bool(
        cfg.get("gradient_checkpointing") or (cfg.get("fsdp_config") or {}).get("activation_checkpointing")
    )
    reference = None
    if dpo and not cfg.get("adapter"):
        reference = on_meta(model.config, setup.dtype, setup.attention).eval().requires_grad_(False)
    loss = partial(trace.dpo_loss, reference=reference) if dpo else trace.sft_loss
    hooks = []
    if setup.pieces > 1:
        hooks = [
            one.register_post_accumulate_grad_hook(lambda one: setattr(one, "grad", None))
            for one in model.parameters()
            if one.requires_grad
        ]
    peak = trace.training(model, loss, trace.Step(rows, tokens, checkpointing, setup.mixed, accumulates))
    for hook in hooks:
        hook.remove()
    return peak


def _gathered(model: Any) -> float:
    """What sharded training puts together for a moment: the two largest pieces, that at work and the next."""
    sizes: dict[str, int] = {}
    for name, one in model.named_parameters():
        parts = name.split(".")
        place = next((".".join(parts[: i + 1]) for i, part in enumerate(parts) if part.isdigit()), parts[-2])
        sizes[place] = sizes.get(place, 0) + one.numel() * one.element_size()
    return sum(sorted(sizes.values())[-2:])


def teacher_need(step: str, shape: Shape, cfg: Mapping[str, Any], args: ArteArgs, prompt: int, new: int) -> Need:
    """The teacher as it writes, in one process: `prompt` and `new` tokens are the usual ones."""
    setup = setup_of(cfg, 1)
    packed = packing(cfg)
    weights = shape.weights(setup.dtype, packed)
    longest = max(args.elicit.max_new_tokens, args.regenerate.max_new_tokens)
    held = [_writing(shape, setup, args, args.elicit.batch_size, prompt, some) for some in (new, longest)]
    note = "" if packed else "greedy replies in pages on CUDA: takes half of what is free there"
    return Need(step, shape.name, weights, 0.0, *held, note)


def student_need(
    step: str, shape: Shape, student: StudentArgs, cfg: Mapping[str, Any], args: ArteArgs, prompt: int, new: int, rows: int,
    longest: int, dtype: str,
) -> Need:  # fmt: skip
    """The student as it answers."""
    attention = {**cfg, "attn_implementation": student.attn_implementation or cfg.get("attn_implementation")}
    setup = setup_of({**attention, "bf16": dtype == "bfloat16", "fp16": dtype == "float16"}, 1)
    held = [_writing(shape, setup, args, rows, prompt, some) for some in (new, longest)]
    return Need(
        step, shape.name, shape.weights(dtype), 0.0, *held, "in pages on CUDA: takes half of what is free there"
    )


def _writing(shape: Shape, setup: Setup, args: ArteArgs, rows: int, prompt: int, new: int) -> float:
    """Keys and values of what is in flight, within `engine.cache_gib`, and what passing the prompts takes."""
    from arte_plugin.plan import trace

    token = shape.token_bytes * SIZES[setup.dtype] / 2
    room = args.engine.cache_gib * GIB
    rows = max(1, min(rows, 256, int(room / (token * (prompt + new)))))
    model = on_meta(shape.config, setup.dtype, setup.attention)
    # Some 2,048 prompt tokens pass at a time, with the scores of their attention in float32, three copies.
    passing = min(rows * prompt, 2048)
    scores = 3 * 4 * shape.config.get_text_config(decoder=True).num_attention_heads * passing * min(prompt, 2048)
    vocabulary = 4 * 4 * rows * shape.config.get_text_config(decoder=True).vocab_size
    return rows * token * (prompt + new) + max(trace.reading(model, 1, passing) + scores, vocabulary)


def evaluation_need(
    step: str, shape: Shape, dtype: str, cfg: Mapping[str, Any], rows: int, prompt: int, new: int, longest: int
) -> Need:
    """The student under lm-eval: padded batches through `generate`."""
    from arte_plugin.plan import trace

    setup = setup_of({**cfg, "bf16": dtype == "bfloat16", "fp16": dtype == "float16"}, 1)
    model = on_meta(shape.config, dtype, setup.attention)
    token = shape.token_bytes * SIZES[dtype] / 2
    reading = trace.reading(model, rows, prompt)
    layers = shape.config.get_text_config(decoder=True).num_hidden_layers
    # A layer's keys and values are copied when a token is added.
    held = [
        max(reading, token / layers * rows * (prompt + some)) + token * rows * (prompt + some)
        for some in (new, longest)
    ]
    return Need(step, shape.name, shape.weights(dtype), 0.0, *held)
