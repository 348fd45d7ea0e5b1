"""The next token of each row: the likeliest, or drawn by the row's own random numbers."""

from collections.abc import Sequence

import torch

from arte_plugin.engines.in_flight import Row


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row, from (rows, vocabulary) logits: the likeliest, or drawn where it is sampled."""
    tokens = logits.argmax(-1)
    if sampled := [i for i, row in enumerate(rows) if row.random is not None]:
        places = torch.tensor(sampled, device=logits.device)
        tokens[places] = draw(logits[places].float(), [rows[i] for i in sampled])
    return tokens.tolist()


def draw(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """A token for each of `rows`, from (rows, vocabulary) float32 logits, by the row's own random numbers.

    One number decides a token (inverse transform): noise for the whole vocabulary costs milliseconds a row and step.
    """
    drawn = torch.tensor([[torch.rand((), generator=row.random).item()] for row in rows], device=logits.device)
    temperatures = torch.tensor([[row.request.temperature] for row in rows], device=logits.device)
    below = (logits / temperatures).softmax(-1).cumsum(-1)
    total = below[:, -1:]
    # Strictly below the total, or rounding could pick a last token that has no probability at all.
    point = torch.minimum(drawn * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(below, point, right=True)[:, 0]
