"""Rows on their way through a small model by any attention: what two ways of attention must agree on."""

import torch
from transformers import MistralConfig, MistralForCausalLM

from arte_plugin.engines.attention import Prefix
from arte_plugin.engines.shared_prefix import SharedPrefixModel

LENGTHS = [3, 40, 1, 17, 25, 8, 64, 2, 31]


def mistral(window: int | None, kv_heads: int = 2, dtype=torch.float32, spread: float = 0.3):
    config = MistralConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=kv_heads, head_dim=16, sliding_window=window, initializer_range=spread,
        max_position_embeddings=2048, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return MistralForCausalLM(config).eval().to(dtype)


def some(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 250, (count,), generator=generator).tolist()


@torch.inference_mode()
def played(model, attention, count: int) -> list:
    """Logits of rows with `count` prefixes and of one without, as they are read, decoded, and some of them gone."""
    packed = SharedPrefixModel(model, len(LENGTHS), attention)
    kept, found = packed.kept, []
    with packed.attention():
        prefixes = [packed.prefix(some(20 + 13 * i, i)) for i in range(count)]
        rows = [Prefix() if i == 4 else prefixes[(5 * i) % count] for i in range(len(LENGTHS))]
        own, lengths = [some(count, 100 + count) for count in LENGTHS], list(LENGTHS)
        for slot, count in enumerate(LENGTHS):
            assert kept.take(slot, count + 30, must=True)
        found.append(packed.extend(0, own, [0] * len(own), rows))
        for step in range(3):
            found.append(packed.extend(0, [some(1, step)] * len(rows), lengths, rows))
            lengths = [length + 1 for length in lengths]
        # Two rows end; another comes into the room of the first.
        for slot in (1, 6):
            kept.drop(slot)
        kept.move([7, 8], [6, 1], max(lengths))
        for places in (rows, lengths):
            places[1], places[6] = places[8], places[7]
            del places[7:]
        kept.take(7, 40, must=True)
        found.append(packed.extend(7, [some(9, 9)], [0], [prefixes[-1]]))
        rows, lengths = [*rows, prefixes[-1]], [*lengths, 9]
        for step in range(2):
            found.append(packed.extend(0, [some(1, step)] * len(rows), lengths, rows))
            lengths = [length + 1 for length in lengths]
    return [logits.float() for logits in found]


def off(one, other) -> float:
    return max(float(((a - b).norm(dim=-1) / b.norm(dim=-1)).max()) for a, b in zip(one, other, strict=True))
