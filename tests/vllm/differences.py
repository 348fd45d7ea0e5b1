"""How far apart two greedy replies to one prompt are: by what margin the first token that differs was chosen."""

from collections.abc import Sequence
from typing import Any

import torch

from arte_plugin.engines.base import Completion, Request

#: In nats. Float32 sums in another order are some 1e-5 apart; one reply is another's equal where no choice of a token
#: was clearer than this.
NEAR_TIE = 1e-3


def differences(
    model: Any, tokenizer: Any, requests: Sequence[Request], here: Sequence[Completion], there: Sequence[Completion]
) -> list[float]:
    """For each pair of replies that differ, the margin at their first difference, by `model`: nats, 0 a tie."""
    found = []
    for request, one, other in zip(requests, here, there, strict=True):
        if one.text != other.text:
            found.append(_margin(model, tokenizer, request.prompt, one.text, other.text))
    return found


def _margin(model: Any, tokenizer: Any, prompt: str, one: str, other: str) -> float:
    a, b = (tokenizer(prompt + text, add_special_tokens=False)["input_ids"] for text in (one, other))
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if place is None:
        # Where the shorter one ended, the end of the turn was chosen there, or not.
        shorter, longer = sorted((a, b), key=len)
        place, a, b = len(shorter), [*shorter, tokenizer.eos_token_id], longer
    with torch.inference_mode():
        logits = model(torch.tensor([a[:place]], device=model.device)).logits[0, -1].float()
    return float(abs(logits[a[place]] - logits[b[place]]))


def told(margins: Sequence[float], of: int) -> dict[str, float]:
    """For the report."""
    return {"replies": of, "differ": len(margins), "largest margin (nats)": max(margins, default=0.0)}
