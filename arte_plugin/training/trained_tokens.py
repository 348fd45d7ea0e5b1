"""A fine-tuning's loss without the logits of tokens that are not trained on: the same loss, and the same gradients.

Only replies are trained on, a quarter of the demo's tokens; the output layer is a fifth of its student's parameters,
and more than half of Gemma 3 270M's. transformers computes it for every token all the same, and then leaves out most.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any


def skip_other_logits() -> None:
    """Have transformers' Trainer, in this process, ask a causal model for the logits of trained tokens only."""
    from transformers import Trainer

    inner = Trainer.compute_loss

    @functools.wraps(inner)
    def compute_loss(self: Any, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
        reads_logits = return_outputs or self.label_smoother is not None or self.compute_loss_func is not None
        if not (reads_logits or self.args.torch_compile):
            inputs = with_trained_only(self.accelerator.unwrap_model(model), inputs)
        return inner(self, model, inputs, return_outputs, **more)

    Trainer.compute_loss = compute_loss


def with_trained_only(model: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """`inputs` of a training step, with what tells `model` to compute logits where `labels` want them only.

    Columns of the batch (rows, tokens) in which no row has a trained token are left out. As they are for a model that
    does not compute its loss in transformers' usual way.
    """
    labels = inputs.get("labels")
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if labels is None or labels.dim() != 2 or "shift_labels" in inputs or not _can(base):
        return inputs
    import torch

    following = torch.nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
    wanted = (following != -100).any(0).nonzero()[:, 0]
    if not len(wanted):
        return inputs
    return {**inputs, "logits_to_keep": wanted, "shift_labels": following[:, wanted].contiguous()}


def _can(model: Any) -> bool:
    """Whether the model is transformers' own, takes `logits_to_keep`, and leaves its loss to transformers' function."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    forward = inspect.unwrap(type(model).forward)
    return (
        forward.__module__.startswith("transformers.models.")
        and "logits_to_keep" in inspect.signature(forward).parameters
        and "loss_function" in forward.__code__.co_names
        and getattr(model, "loss_function", None) is ForCausalLMLoss
    )
