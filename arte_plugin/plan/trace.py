"""A training step on tensors without data: what it would hold at once, in bytes.

The model is the real one of transformers, on PyTorch's `meta` device: shapes and types, no numbers. Its own forward and
backward are run, and every tensor that they make is counted from when it is made until it is let go. That gives what
each architecture keeps, with and without gradient checkpointing, where a formula for one of them would do for one.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AttentionInterface

#: Attention without scores: FlashAttention, which keeps its inputs, its output and a number a row; and that of PyTorch
#: (sdpa), which where rows are padded has the keys and values of grouped heads repeated for each of them.
GROUPED, REPEATED = "arte_plan_grouped", "arte_plan_repeated"
#: That of a prompt behind a prefix, as `engines.varlen_attention` has it.
SPLIT = "arte_plan_split"

META = torch.device("meta")

#: Of a model and its reference, if any, on token ids; the last is whether precision is mixed.
Loss = Callable[[Any, Any, torch.Tensor, bool], torch.Tensor]


class Counter(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it; `known` are those that were there before."""

    def __init__(self, known: Iterable[torch.Tensor] = ()):
        super().__init__()
        self.live = 0
        #: The most that was live at a time, by part of the work.
        self.peaks: dict[str, int] = {}
        self.part = "top"
        self._seen = {_key(tensor) for tensor in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and enter what it made."""
        made = function(*args, **(kwargs or {}))
        for one in tree_iter(made):
            if isinstance(one, torch.Tensor):
                self._enter(one)
        return made

    def _enter(self, tensor: torch.Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.live += size
        self.peaks[self.part] = max(self.peaks.get(self.part, 0), self.live)
        weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self.live -= size
        self._seen.discard(key)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Attention(torch.autograd.Function):
    """What attention without scores takes: query (rows, heads, tokens, width), key and value alike."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        rows, heads, tokens, _ = query.shape
        output = query.new_empty(rows, tokens, heads, value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(rows, heads, tokens, dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return tuple(torch.empty_like(one) for one in ctx.saved_tensors[:3])


def _grouped(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **more: Any) -> Any:
    return _Attention.apply(query, key, value), None


def _repeated(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **more: Any) -> Any:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        # As transformers does where rows are padded.
        key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    return _Attention.apply(query, key, value), None


def _split(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **more: Any) -> Any:
    _, heads, tokens, width = query.shape
    kv_heads, group = key.shape[1], heads // key.shape[1]
    queries = query[0].transpose(0, 1).to(value.dtype)
    packed = queries.reshape(tokens, kv_heads, group, width).transpose(1, 2).reshape(tokens * group, kv_heads, width)
    # Of a call over what the rows have of their own, its heads laid as in that over their prefix.
    width = value.shape[-1]
    output = queries.new_empty(tokens, kv_heads, group, width).transpose(1, 2).reshape(tokens * group, kv_heads, width)
    first, weight = torch.empty_like(output), packed.new_empty(tokens * group, kv_heads, 1, dtype=torch.float32)
    both = torch.lerp(output.float(), first.float(), weight).to(output.dtype)
    return both.view(tokens, group, kv_heads, width).transpose(1, 2).reshape(1, tokens, heads, width), None


AttentionInterface.register(SPLIT, _split)
AttentionInterface.register(GROUPED, _grouped)
AttentionInterface.register(REPEATED, _repeated)


class _Unpacked(torch.autograd.Function):
    """A quantised layer: its weight is unpacked for each use, and neither that nor the input is kept."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, out_features: int) -> torch.Tensor:
        ctx.shape = (out_features, inputs.shape[-1])
        weight = inputs.new_empty(ctx.shape)
        output = inputs.new_empty(*inputs.shape[:-1], out_features)
        del weight
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        weight = gradient.new_empty(ctx.shape)
        made = gradient.new_empty(*gradient.shape[:-1], ctx.shape[1])
        del weight
        return made, None


class QuantisedLinear(torch.nn.Module):
    """Stands for a linear layer whose weight, packed, is counted elsewhere."""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, in) to (…, out)."""
        return _Unpacked.apply(inputs, self.out_features)


class LoraLinear(torch.nn.Module):
    """A linear layer with an adapter, as PEFT computes it; `on` switches the adapter off for the reference."""

    on = True

    def __init__(self, base: Any, rank: int, dtype: torch.dtype):
        super().__init__()
        self.base, self.dtype = base, dtype
        self.a = torch.nn.Parameter(torch.empty(rank, base.in_features, dtype=dtype, device=META))
        self.b = torch.nn.Parameter(torch.empty(base.out_features, rank, dtype=dtype, device=META))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, in) to (…, out)."""
        output = self.base(inputs)
        if not self.on:
            return output
        # In the adapter's precision, then, under autocast, back in the model's.
        lowered = inputs.to(self.dtype).to(inputs.dtype)
        low = lowered @ self.a.to(inputs.dtype).t()
        return output + (low @ self.b.to(inputs.dtype).t()) * 2.0


@dataclass(frozen=True)
class Step:
    """Rows and tokens of one step, and how it is trained."""

    rows: int
    tokens: int
    checkpointing: bool
    #: Mixed precision: logits are turned into float32 behind the model.
    mixed: bool
    #: A layer's gradients are gone as soon as they are there: added to those of an earlier step, or handed out.
    gives_gradients_away: bool


@dataclass(frozen=True)
class Traced:
    """The most that is held beside the weights, in bytes, in the parts of a step."""

    #: Until the gradients reach the last layer, then in the layers, then below the first.
    top: int
    layers: int
    below: int
    #: What is held as the gradients reach the last layer.
    held: int


def training(build: Callable[[int], tuple[Any, Any]], loss: Loss, step: Step, layers: int) -> float:
    """The most that a training step holds beside the weights, in bytes: activations, logits, gradients.

    `build` makes the model with so many layers, on the meta device, and the reference model if there is one; what is
    trained requires gradients. `loss` is one of those below. Where all layers are alike, a step with two of them and
    one with three tell what a step with all would hold.
    """
    whole = build(layers)
    stack = layers_of(whole[0])
    if stack is None or len({tuple(one.shape for one in layer.parameters()) for layer in stack}) > 1 or layers < 4:
        traced = _training(*whole, loss, step)
        return max(traced.top, traced.layers, traced.below)
    two, three = (_training(*build(count), loss, step) for count in (2, 3))
    kept = three.held - two.held
    trained = sum(one.numel() * one.element_size() for one in stack[0].parameters() if one.requires_grad)
    gradients = 0 if step.gives_gradients_away else trained

    def within(count: int) -> int:
        """What a stack holds while a layer is at work: at the beginning, or at the end."""
        return max(count * kept, kept + (count - 1) * gradients)

    return max(
        two.top + (layers - 2) * kept,
        two.layers - within(2) + within(layers),
        two.below + (layers - 2) * gradients,
    )


def layers_of(model: Any) -> list[Any] | None:
    """The layers of the stack, if the model has one of the length that its config names."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    stacks = [one for one in model.modules() if isinstance(one, torch.nn.ModuleList) and len(one) == count]
    return list(stacks[0]) if stacks else None


def _training(model: Any, reference: Any, loss: Loss, step: Step) -> Traced:
    model.train()
    if step.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        model.enable_input_require_grads()
    if step.gives_gradients_away:
        for one in model.parameters():
            if one.requires_grad:
                one.register_post_accumulate_grad_hook(_give_away)
    with _counting(model, reference) as counter:
        held = 0

        def reached(part: str) -> None:
            nonlocal held
            held = counter.live if part == "layers" else held
            counter.part = part

        if (stack := layers_of(model)) is not None:
            stack[-1].register_forward_hook(lambda *call: _at_gradient(call[2], lambda: reached("layers")))
            model.get_input_embeddings().register_forward_hook(
                lambda *call: _at_gradient(call[2], lambda: reached("below"))
            )
        ids = torch.empty(step.rows, step.tokens, dtype=torch.long, device=META)
        loss(model, reference, ids, step.mixed).backward()
    return Traced(**{part: counter.peaks.get(part, 0) for part in ("top", "layers", "below")}, held=held)


def _at_gradient(output: Any, then: Callable[[], None]) -> None:
    """Call `then` when the gradient of a layer's output is there."""
    hidden = output[0] if isinstance(output, tuple) else output
    if hidden.requires_grad:
        hidden.register_hook(lambda gradient: then())


def _give_away(parameter: torch.Tensor) -> None:
    parameter.grad = None


def reading(model: Any, rows: int, tokens: int) -> int:
    """The most that a prompt of `rows` × `tokens` holds while it passes through the model, in bytes."""
    model.eval()
    with _counting(model) as counter, torch.no_grad():
        ids = torch.empty(rows, tokens, dtype=torch.long, device=META)
        model(input_ids=ids, use_cache=False, logits_to_keep=1)
    return counter.peaks["top"]


@contextlib.contextmanager
def _counting(*models: Any) -> Iterator[Counter]:
    known = [one for model in models if model is not None for one in (*model.parameters(), *model.buffers())]
    with Counter(known) as counter:
        yield counter


def dpo_loss(model: Any, reference: Any, ids: torch.Tensor, mixed: bool) -> torch.Tensor:
    """TRL's DPO loss, as far as memory goes: chosen and rejected rows together, then the reference on the same.

    The reference is `model` without its adapters where there is no other.
    """
    logits = _logits(model, ids, mixed)
    total = _log_probabilities(logits, ids).sum()
    with torch.no_grad(), _no_adapters(model if reference is None else None):
        reference_logits = _logits(model if reference is None else reference, ids, mixed)
        of_reference = _log_probabilities(reference_logits, ids).sum()
    total = total - of_reference
    # The entropy that it logs, of which all pieces of 128 tokens are alike.
    chances = logits[:, :-1].detach().reshape(-1, logits.shape[-1])[:128].log_softmax(-1)
    (chances.exp() * chances).sum(-1)
    return total


def sft_loss(model: Any, reference: Any, ids: torch.Tensor, mixed: bool) -> torch.Tensor:
    """transformers' own loss on `ids` as labels."""
    output = model(input_ids=ids, labels=ids, use_cache=False)
    if mixed:
        output.logits = output.logits.float()
    return output.loss


def _logits(model: Any, ids: torch.Tensor, mixed: bool) -> torch.Tensor:
    logits = model(input_ids=ids, use_cache=False).logits
    return logits.float() if mixed else logits


def _log_probabilities(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """As `trl.trainer.utils.selective_log_softmax`: row by row, by another way in half precision."""
    logits, index = logits[:, :-1], ids[:, 1:, None]
    if logits.dtype == torch.float32:
        chosen = torch.gather(logits, -1, index)
        return (chosen - torch.stack([row.logsumexp(-1) for row in logits])[..., None])[..., 0]
    rows = zip(logits, index, strict=True)
    return torch.stack([row.log_softmax(-1).gather(-1, labels) for row, labels in rows])[..., 0]


@contextlib.contextmanager
def _no_adapters(model: Any) -> Iterator[None]:
    adapters = [module for module in model.modules() if isinstance(module, LoraLinear)] if model is not None else []
    for one in adapters:
        one.on = False
    yield
    for one in adapters:
        one.on = True
