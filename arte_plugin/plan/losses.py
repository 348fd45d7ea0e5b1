"""What a training step computes behind the model, as far as memory goes."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from arte_plugin.plan.stand_ins import LoraLinear

#: Of a model and its reference, if any, on token ids; the last is whether precision is mixed.
Loss = Callable[[Any, Any, torch.Tensor, bool], torch.Tensor]


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
