"""What stands for layers in a model on PyTorch's `meta` device: it takes what they take, and computes nothing."""

from typing import Any

import torch
from transformers import AttentionInterface

#: Attention without scores: FlashAttention, which keeps its inputs, its output and a number a row; and that of PyTorch
#: (sdpa), which where rows are padded has the keys and values of grouped heads repeated for each of them.
GROUPED, REPEATED = "arte_plan_grouped", "arte_plan_repeated"
#: That of a prompt behind a prefix, as `engines.varlen_attention` has it.
SPLIT = "arte_plan_split"

META = torch.device("meta")


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
