"""Peak memory of a device in each step, from the config alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arte_plugin.engines import limits
from arte_plugin.engines.limits import MEMORY, SHARE
from arte_plugin.plan.shapes import INT8, NF4, NF4_DOUBLE, SIZES, Shape, inner_linears, on_meta

GIB = 2**30

#: Bytes of a GPU's memory that weights may take if the model is to write there, of one with 80 GB (`placement`).
ROOM = 0.8 * 80e9

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


@dataclass(frozen=True)
class Need:
    """What one step holds on each device, in bytes."""

    #: The stage, and what of it in words.
    stage: str
    step: str
    model: str
    weights: float
    #: Adapter, gradients kept from step to step, optimizer, a second reference model.
    kept: float
    #: Activations, logits, gradients on their way, keys and values: at the usual length, and at the longest.
    usual: float
    longest: float
    #: The lengths meant, in tokens.
    tokens: tuple[int, int]
    #: Keys and values take what there is to hold of a share of what is free: nothing else was said.
    fills: bool = False

    @property
    def total(self) -> float:
        """At the usual length."""
        return self.weights + self.kept + self.usual

    @property
    def most(self) -> float:
        """At the longest. Fewer long rows are in flight than usual ones, so that may be less."""
        return self.weights + self.kept + max(self.usual, self.longest)

    def of(self, memory: float) -> float:
        """The most that it takes of a GPU with so many bytes."""
        return max(self.most, self.weights + (memory - self.weights) * SHARE) if self.fills else self.most


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
        mixed=(bool(cfg.get("bf16") or cfg.get("fp16")) or has_float32_weights(cfg)) and not zero,
        attention=trace.GROUPED if flash else trace.REPEATED,
        pieces=pieces,
        zero3=stage == 3,
        offloads=str((zero.get("offload_optimizer") or {}).get("device", "none")) != "none",
    )


def has_float32_weights(cfg: Mapping[str, Any]) -> bool:
    """Whether float32 weights are computed with in bfloat16 (`Float32Weights`)."""
    return "arte_plugin.Float32Weights" in (cfg.get("plugins") or [])


def writing_dtype(cfg: Mapping[str, Any]) -> str:
    """The precision that a teacher trained by these keys writes in, on a GPU: that in which its training computes."""
    return "bfloat16" if has_float32_weights(cfg) else setup_of(cfg, 1).dtype


def writes_on(weights: float, pieces: int) -> int:
    """GPUs that a teacher with so many bytes of weights lies on as it writes, where its training is in `pieces`.

    That is one process, which has it on one GPU if that holds it, and else on all (`placement.device_map`).
    """
    return 1 if weights <= ROOM else pieces


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


def _trained_model(shape: Shape, cfg: Mapping[str, Any], setup: Setup, layers: int) -> Any:
    """With so many layers, on the meta device; the adapter's layers and the quantised ones are in their places."""
    import torch

    from arte_plugin.plan import trace

    model = on_meta(shape.with_layers(layers), setup.dtype, setup.attention)
    adapter, packed = cfg.get("adapter"), packing(cfg)
    if not adapter:
        return model
    model.requires_grad_(False)
    wanted = None if cfg.get("lora_target_linear") else tuple(cfg.get("lora_target_modules") or ())
    for name, layer in inner_linears(model):
        parent, _, last = name.rpartition(".")
        made = trace.QuantisedLinear(layer) if packed else layer
        if wanted is None or last in wanted or name in wanted:
            # In float32, on a quantised model too (`adapters.in_float32`).
            made = trace.LoraLinear(made, int(cfg.get("lora_r") or 8), torch.float32)
        if made is not layer:
            setattr(model.get_submodule(parent), last, made)
    return model


def _peak(shape: Shape, cfg: Mapping[str, Any], setup: Setup, tokens: int, dpo: bool) -> float:
    """Beside weights, optimizer, and gradients of an earlier step."""
    from arte_plugin.plan import trace

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
    return trace.training(build, trace.dpo_loss if dpo else trace.sft_loss, step, shape.text.num_hidden_layers)


def accumulates(cfg: Mapping[str, Any]) -> bool:
    """Whether gradients are summed over several steps, so that those of the step before are there."""
    return int(cfg.get("gradient_accumulation_steps") or 1) > 1


def _gathered(model: Any) -> float:
    """What sharded training puts together for a moment: the two largest pieces, that at work and the next."""
    sizes: dict[str, int] = {}
    for name, one in model.named_parameters():
        parts = name.split(".")
        place = next((".".join(parts[: i + 1]) for i, part in enumerate(parts) if part.isdigit()), parts[-2])
        sizes[place] = sizes.get(place, 0) + one.numel() * one.element_size()
    return sum(sorted(sizes.values())[-2:])


def writing_need(
    stage: str, step: str, shape: Shape, cfg: Mapping[str, Any], dtype: str, rows: int | None,
    cache: float | None, lengths: tuple[int, int, int], spread: int = 1, varlen: bool | None = None,
) -> Need:  # fmt: skip
    """A model that writes, in one process: `rows` requests at a time, keys and values within `cache` bytes.

    None is for what is not said: all requests, and `MEMORY`. With variable-length attention or the plain one, by
    `varlen`; None is for what a GPU of the Ampere generation or newer has.

    `lengths` are a prompt's, a reply's as expected and as long as it may be, in tokens; `spread` is the number of GPUs
    that its layers lie on.
    """
    packed = packing(cfg)
    prompt, usual, longest = lengths
    if limits.why_plain(shape.text, dtype) if varlen is None else not varlen:
        held = [_plain(shape, cfg, dtype, rows, cache or MEMORY, prompt, new) for new in (usual, longest)]
    else:
        # The pool is made for replies as long as they may be.
        held = [_varlen(shape, dtype, rows, cache or MEMORY, prompt + longest, prompt)] * 2
    weights = shape.weights(dtype, packed) / spread
    return Need(
        stage,
        step,
        shape.name,
        weights,
        0.0,
        held[0],
        held[1],
        (prompt + usual, prompt + longest),
        fills=cache is None,
    )


def _plain(
    shape: Shape, cfg: Mapping[str, Any], dtype: str, rows: int | None, cache: float, prompt: int, new: int
) -> float:
    """Keys and values of what is in flight, and what passing the prompts takes."""
    token = shape.token_bytes * SIZES[dtype] / 2
    most = limits.PLAIN.rows
    rows = max(1, min(rows or most, most, int(cache / (token * (prompt + new)))))
    # Some prompt tokens pass at a time, with the scores of their attention: in float32, and copied twice.
    passing = min(rows * prompt, limits.PLAIN.prefill)
    scores = 3 * 4 * shape.text.num_attention_heads * passing * min(prompt, limits.PLAIN.chunk)
    logits = limits.LOGIT * rows * shape.text.vocab_size
    reading = _reading(shape, dtype, setup_of(cfg, 1).attention, passing)
    return rows * token * (prompt + new) + max(reading + scores, logits)


def _varlen(shape: Shape, dtype: str, rows: int | None, cache: float, tokens: int, prompt: int) -> float:
    """The pool of keys and values for rows of so many `tokens`, and what passing the prompts takes."""
    from arte_plugin.plan import trace

    slots = limits.varlen_rows(cache, rows or limits.VARLEN.rows, shape.text.vocab_size)
    token = shape.token_bytes * SIZES[dtype] / 2
    # Of all requests together, it has room for all prefixes: there is no telling how many.
    pool = max(cache if rows is None else min(cache, rows * token * tokens), token * tokens)
    logits = limits.LOGIT * slots * shape.text.vocab_size
    return pool + max(_reading(shape, dtype, trace.SPLIT, min(slots * prompt, limits.VARLEN.prefill)), logits)


def _reading(shape: Shape, dtype: str, attention: str, tokens: int) -> float:
    """What prompts take as they pass through: nothing is kept from layer to layer, so two of them tell."""
    from arte_plugin.plan import trace

    return trace.reading(on_meta(shape.with_layers(2), dtype, attention), 1, tokens)
