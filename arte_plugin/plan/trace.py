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

from arte_plugin.plan.losses import Loss
from arte_plugin.plan.stand_ins import META


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
    trained requires gradients. `loss` is one of `losses`. Where all layers are alike, a step with two of them and
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
