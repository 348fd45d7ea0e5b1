"""Linear layers on a CPU by oneDNN, with weights in the order in which its matmuls read them.

torch hands a float32 linear layer to MKL, which puts the weight in order anew at each call: for the few dozen rows of a
decoding step that is a fifth of a layer's time, and near to half of the output layer's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

#: Bytes that the weights may have, since they are held a second time; larger models stay as they are, whatever memory
#: there is, so that a model gives the same logits on the same processor.
MOST_BYTES = 4 * 2**30

#: Rows for which the order is chosen: it serves fewer and more as well.
ROWS = 32


class PackedLinears:
    """The linear layers of a float32 model on the CPU, and their weights once more; of any other model, none.

    A weight that has changed in between, its diagonal at least, is packed anew.
    """

    def __init__(self, model: torch.nn.Module):
        self._layers = _linears(model)
        self._packed: dict[int, tuple[tuple[int, float], torch.Tensor]] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._layers)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within this, and without gradients, the model's linear layers run on the packed weights."""
        replaced = []
        try:
            for layer in self._layers:
                # Whoever has replaced it already wants to be asked.
                if "forward" not in vars(layer):
                    layer.forward = partial(  # type: ignore[method-assign]
                        _forward, self._weight(layer), layer.bias
                    )
                    replaced.append(layer)
            yield
        finally:
            for layer in replaced:
                del layer.forward

    def close(self) -> None:
        """Give back the memory."""
        self._layers, self._packed = [], {}

    def _weight(self, layer: torch.nn.Linear) -> torch.Tensor:
        weight = layer.weight
        # torch counts changes, but not those through `.data`, by which PEFT merges an adapter.
        state = weight.data_ptr(), float(weight.detach().diagonal().sum())
        if id(layer) not in self._packed or self._packed[id(layer)][0] != state:
            self._packed[id(layer)] = state, _pack(weight)
        return self._packed[id(layer)][1]


def _linears(model: torch.nn.Module) -> list[torch.nn.Linear]:
    # Not those that inherit from it: they compute something else.
    layers = [layer for layer in model.modules() if type(layer) is torch.nn.Linear]
    fit = all(layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32 for layer in layers)
    size = sum(layer.weight.nbytes for layer in layers)
    return layers if layers and fit and size <= MOST_BYTES and _works() else []


def _works() -> bool:
    """Whether this build of torch has what is wanted, and it gives what it should."""
    if not torch.backends.mkldnn.is_available():
        return False
    weight, rows = torch.randn(48, 32, generator=torch.Generator().manual_seed(0)), torch.ones(1, 3, 32)
    try:
        found = _forward(_pack(weight), None, rows)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(found, torch.nn.functional.linear(rows, weight), atol=1e-4)


def _pack(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)


def _forward(weight: Any, bias: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
