"""What a model computed, what that costs at least, what the machine can do, and how much memory was in use."""

import gc
import time
from dataclasses import dataclass

import torch

from benchmarks.probing import resident


@dataclass
class Counts:
    """What went through a model."""

    #: Calls of the model.
    forwards: int = 0
    #: Tokens in all of them, padding and rows that had ended included.
    tokens: int = 0
    #: Of these, tokens in calls with one token a row: nothing but decoding.
    stepped: int = 0
    #: Of `tokens`, those that the attention mask hides.
    masked: int = 0
    #: For every token, how many keys causal attention needs for it: its position and all before.
    keys: int = 0
    #: Positions at which logits were made.
    logits: int = 0


class Meter:
    """Counts what goes through `model`, whoever calls it."""

    def __init__(self, model):
        self._counts = Counts()
        self._replayed = False
        # Sums that may still be under way on a GPU: to wait for each of them would slow the model down.
        self._masked: list[torch.Tensor] = []
        self._keys: list[torch.Tensor] = []
        model.register_forward_pre_hook(self._model, with_kwargs=True)
        model.get_output_embeddings().register_forward_pre_hook(self._head)

    def start(self) -> None:
        """Count from nought."""
        self._counts = Counts()
        self._masked.clear()
        self._keys.clear()

    def counts(self) -> Counts | None:
        """What was counted since the start; None where CUDA graphs were made, for those are replayed without Python."""
        if self._replayed:
            return None
        done = self._counts
        done.masked = sum(int(one) for one in self._masked)
        done.keys = sum(int(one) for one in self._keys)
        return done

    def _model(self, module, args, kwargs) -> None:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            self._replayed = True
            return
        given = kwargs.get("input_ids", args[0] if args else None)
        rows, length = (given if given is not None else kwargs["inputs_embeds"]).shape[:2]
        self._counts.forwards += 1
        self._counts.tokens += rows * length
        self._counts.stepped += rows * length if length == 1 else 0
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        if isinstance(mask, torch.Tensor) and mask.dim() == 2:
            self._masked.append((mask[:, -length:] == 0).sum())
        if positions is not None:
            self._keys.append((positions + 1).expand(rows, length).sum())
        else:
            cache = kwargs.get("past_key_values")
            past = cache.get_seq_length() if cache is not None else 0
            self._keys.append(torch.tensor(rows * (length * past + length * (length + 1) // 2)))

    def _head(self, module, args) -> None:
        self._counts.logits += args[0].numel() // args[0].shape[-1]


@dataclass(frozen=True)
class Shape:
    """What a model's work is made of."""

    #: Parameters that every token is multiplied with: all but the embeddings.
    body: int
    #: Parameters of the output embeddings, whether or not they are the input embeddings' own.
    head: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    #: Bytes of one number.
    width: int

    @classmethod
    def of(cls, model) -> "Shape":
        """The shape of a causal language model of transformers, dense and with plain attention."""
        config = model.config.get_text_config(decoder=True)
        embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        every = sum(one.numel() for one in model.parameters())
        body = every - embeddings.numel() - (0 if head is embeddings else head.numel())
        heads = config.num_attention_heads
        return cls(
            body=body,
            head=head.numel(),
            layers=config.num_hidden_layers,
            heads=heads,
            key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
            width=head.element_size(),
        )

    def flops(self, counts: Counts) -> int:
        """Multiplications and additions: two a parameter and token, and two of each for a key of a head's numbers."""
        attention = 4 * self.layers * self.heads * self.head_size * counts.keys
        return 2 * self.body * counts.tokens + 2 * self.head * counts.logits + attention

    def bytes_read(self, counts: Counts, keys_of_replies: int) -> int:
        """Bytes read from memory: the weights once a call, and for each generated token the keys and values before it.

        `keys_of_replies` is the sum, over generated tokens, of the tokens in front of each.
        """
        key_value = 2 * self.layers * self.key_value_heads * self.head_size * self.width
        return counts.forwards * (self.body + self.head) * self.width + key_value * keys_of_replies


def ceilings(device: str, dtype: torch.dtype, size: int = 0, numbers: int = 0) -> dict[str, float]:
    """FLOP/s of one large matmul and bytes/s (read and written) of one large copy, each the best of five.

    `size` is the matrices' width and `numbers` how many are copied; 0 stands for what is large on the device.
    """
    on_cuda = device.startswith("cuda")
    size, numbers = size or (8192 if on_cuda else 3072), numbers or (1 << 30 if on_cuda else 1 << 27)
    return {"flops_per_second": _matmul(size, device, dtype), "bytes_per_second": _copy(numbers, device, dtype)}


def _matmul(size: int, device: str, dtype: torch.dtype) -> float:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _best(lambda: left @ right, device)


def _copy(numbers: int, device: str, dtype: torch.dtype) -> float:
    source = torch.ones(numbers, device=device, dtype=dtype)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / _best(lambda: target.copy_(source), device)


def _best(action, device: str) -> float:
    action()
    best = float("inf")
    for _ in range(5):
        started = now(device)
        action()
        best = min(best, now(device) - started)
    return best


def now(device: str) -> float:
    """Seconds on the clock, once the device is done with what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def forget_peak(device: str) -> None:
    """Measure the peak of memory from here on, as far as the system lets one."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    resident.forget_peak()


def peak_memory(device: str) -> int:
    """Bytes at the peak: allocated on the GPU, or resident in memory; the model is part of both."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return resident.peak()
