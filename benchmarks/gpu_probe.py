"""What only a GPU can tell, in ten minutes: is the engine's way for a GPU right, how fast is it, what does it leave?

    python -m benchmarks.gpu_probe --out DIR                  in the root of the repository
    python -m benchmarks.gpu_probe --out DIR --rehearse       all of it in small, on a CPU

Wants PyTorch with CUDA, transformers, accelerate, peft and what these import: no Axolotl, no network, no model. Models
are made with random weights from the shapes of SmolLM2-135M and Llama-3-8B. `--model` names a real small one for what
should be asked of a real one, and bitsandbytes, where it is there, is asked for the 8B in 4 bits.

Each item is tried for itself and has a budget; `--only` picks some. Lines of JSON go to DIR/gpu_probe.jsonl as they
come, one for each figure and one for the end of each item. When `--seconds` are over the process ends, come what may.
"""

import argparse
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

Rows = Iterator[dict[str, Any]]
#: Seconds that an item may go beyond its budget, in a call that can't be broken off from Python.
GRACE = 20.0
#: How much longer an item may take in a rehearsal: a few cores are no GPU.
PATIENCE = 20
CUT = 3

#: Of models: what their config says, as published.
SHAPES: dict[str, dict[str, int]] = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 512},
}  # fmt: skip
#: How much of everything: on a GPU, and in a rehearsal.
FULL: dict[str, Any] = {
    "student": "135m", "teacher": "8b", "families": 25, "siblings": 40, "prefix": 500, "own": 120, "new": 64,
    "teacher_rows": (16, 64, 256), "teacher_prompt": 350, "teacher_new": 96, "evaluation_rows": (16, 128, 512),
    "steps": 100, "train_rows": 8, "train_tokens": 512, "continuations": 200, "kernel_rows": 64, "kernel_keys": 700,
    "beside": 0.8,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "student": "tiny", "teacher": "tiny", "families": 4, "siblings": 4, "prefix": 40, "own": 12, "new": 6,
    "teacher_rows": (2, 4), "teacher_prompt": 20, "teacher_new": 4, "evaluation_rows": (2, 4), "steps": 5,
    "train_rows": 2, "train_tokens": 32, "continuations": 8, "kernel_rows": 5, "kernel_keys": 30, "beside": 0.0,
}  # fmt: skip


class OutOfTime(BaseException):
    """An item's budget is over; nothing that an item catches."""


class Numbers:
    """A tokenizer for models with random weights: a text is its tokens' numbers."""

    eos_token_id, pad_token_id = None, 0

    def __call__(self, text: str | Sequence[str], add_special_tokens: bool = False) -> dict[str, Any]:
        """The tokens of a text, or of several."""
        if isinstance(text, str):
            return {"input_ids": [int(one) for one in text.split()]}
        return {"input_ids": [self(one)["input_ids"] for one in text]}

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        """The text that stands for them."""
        return "".join(f" {token}" for token in tokens)


@dataclass
class Probe:
    """What the items are given."""

    device: str
    sizes: dict[str, Any]
    #: A directory with a real small model; None for random weights.
    real: str | None
    #: Whether this is a rehearsal, in which flash attention is stood in for.
    rehearse: bool = False
    random: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(1))

    @property
    def half(self) -> torch.dtype:
        """What models compute in, but where something else is said."""
        return torch.bfloat16

    def now(self) -> float:
        """Seconds, once the GPU is done with what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def memory(self) -> dict[str, int]:
        """Megabytes by both counts: what PyTorch has reserved, and what is in use on the GPU by anybody."""
        if self.device != "cuda":
            return {}
        free, total = torch.cuda.mem_get_info()
        return {"reserved_mb": torch.cuda.memory_reserved() // 10**6, "in_use_mb": (total - free) // 10**6}

    def model(self, shape: str, dtype: torch.dtype, **more: Any) -> Any:
        """A Llama with random weights, made on the device: so wide that its logits are as far apart as a real one's."""
        from transformers import AutoModelForCausalLM, LlamaConfig

        usual = {"initializer_range": 2.4 / SHAPES[shape]["hidden_size"] ** 0.5}
        config = LlamaConfig(
            **SHAPES[shape], max_position_embeddings=8192, tie_word_embeddings=shape != "8b", bos_token_id=None,
            eos_token_id=None, pad_token_id=0, **{**usual, **more},
        )  # fmt: skip
        torch.manual_seed(0)
        with torch.device(self.device):
            return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()

    def student(self, dtype: torch.dtype, **more: Any) -> tuple[Any, Any]:
        """The small model and its tokenizer: the real one where there is one."""
        if not self.real:
            return self.model(self.sizes["student"], dtype, **more), Numbers()
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(self.real, dtype=dtype, attn_implementation="sdpa")
        return model.to(self.device).eval(), AutoTokenizer.from_pretrained(self.real)

    def text(self, tokens: int, tokenizer: Any) -> str:
        """A prompt of about so many tokens."""
        numbers = torch.randint(3, 500, (tokens,), generator=self.random).tolist()
        if isinstance(tokenizer, Numbers):
            return " ".join(map(str, numbers))
        return " ".join(f"Item {number}." for number in numbers[: max(1, tokens // 4)])

    def families(self, tokenizer: Any, families: int, siblings: int, prefix: int, own: int) -> list[list[str]]:
        """Prompts whose beginning is their family's."""
        made = []
        for _ in range(families):
            begin = self.text(prefix, tokenizer)
            made.append([f"{begin} {self.text(own, tokenizer)}" for _ in range(siblings)])
        return made


# --- The engine's ways ------------------------------------------------------------------------------------------------

WAYS = ("varlen", "plain", "padded")


@contextmanager
def way(name: str, probe: Probe) -> Iterator[None]:
    """Within this the engine goes by one of `WAYS`: torch's variable-length flash attention, matmuls, `generate`."""
    from arte_plugin.engines import transformers as engine

    with ExitStack() as stack:
        if name == "padded":
            stack.enter_context(patch.object(engine, "can_share", lambda *_: "the probe wants it padded"))
        elif name == "plain" and hasattr(engine, "why_not"):
            stack.enter_context(patch.object(engine, "why_not", lambda _: "the probe wants it plain"))
        elif name == "varlen":
            if not hasattr(engine, "why_not"):
                raise NotImplementedError("this engine has no variable-length attention")
            if probe.rehearse:
                stack.enter_context(flash_for_rehearsals())
                stack.enter_context(patch.object(engine, "why_not", lambda _: ""))
        yield


def requests(families: Sequence[Sequence[str]], new: int) -> list[Any]:
    """Greedy requests, whose replies run on to their longest length where no token ends them."""
    from arte_plugin.engines.base import Request

    return [
        Request(prompt, group=str(number), max_new_tokens=new, temperature=0.0, seed=0)
        for number, prompts in enumerate(families)
        for prompt in prompts
    ]


def timed(probe: Probe, model: Any, tokenizer: Any, name: str, asked: Sequence[Any], warm: int = 8) -> dict[str, Any]:
    """How fast the engine answers `asked` in one of its ways, and what that was."""
    from arte_plugin.engines.transformers import TransformersEngine

    with way(name, probe):
        engine = TransformersEngine(model, tokenizer)
        engine.generate(list(asked[:warm]))
        if probe.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        forwards = Counter(model)
        started = probe.now()
        answers = engine.generate(list(asked))
        seconds = probe.now() - started
        forwards.close()
        described = engine.describe()
    new = sum(one.new_tokens for one in answers)
    peak = torch.cuda.max_memory_allocated() // 10**6 if probe.device == "cuda" else 0
    return {
        "way": name, "requests": len(asked), "seconds": round(seconds, 3), "new_tokens": new,
        "new_tokens_per_second": round(new / seconds, 1),
        "prompt_tokens": sum(one.prompt_tokens for one in answers), "forwards": forwards.count, "peak_mb": peak,
        "used": {key: described[key] for key in ("shared", "varlen", "why_not") if key in described},
    }  # fmt: skip


class Counter:
    """Counts the calls of a model, whoever makes them."""

    def __init__(self, model: Any):
        self.count = 0
        self._hook = model.register_forward_pre_hook(self._add)

    def _add(self, *_: Any) -> None:
        self.count += 1

    def close(self) -> None:
        """Count no more."""
        self._hook.remove()


# --- The items --------------------------------------------------------------------------------------------------------


def machine(probe: Probe) -> Rows:
    """What this is, and the ceilings: the rate of a large matmul and of a large copy."""
    from importlib import metadata

    from benchmarks.probing.measure import ceilings

    versions = {}
    for name in ("torch", "transformers", "accelerate", "peft", "triton", "kernels", "flash-attn", "bitsandbytes"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found: dict[str, Any] = {"python": platform.python_version(), "versions": versions, "device": probe.device}
    if probe.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"name": properties.name, "memory": properties.total_memory, "cuda": torch.version.cuda}
        found["capability"] = f"{properties.major}.{properties.minor}"
    yield found
    small = (256, 1 << 20) if probe.rehearse else (0, 0)
    for dtype in (torch.bfloat16, torch.float32):
        yield {"dtype": str(dtype), **ceilings(probe.device, dtype, *small)}
    for name in ("flash_attention_2", "flash_attention_4", "sdpa"):
        try:
            model = probe.model("tiny", probe.half)
            model.set_attn_implementation(name)
            used = model.config._attn_implementation
            yield {"attention": name, "loads": used == name}
        except (ImportError, ValueError, RuntimeError, OSError) as error:
            yield {"attention": name, "loads": False, "why": str(error).splitlines()[0][:200]}


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, begins: list[int], starts: list[int], used: list[int],
    causal: bool, window: int | None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """What the kernel should give, in float32: output (queries, heads, width), log-sum-exp (heads, queries)."""
    output = query.new_zeros(*query.shape, dtype=torch.float32)
    total = query.new_full((query.shape[1], len(query)), torch.inf, dtype=torch.float32)
    for number, (start, length) in enumerate(zip(starts, used, strict=True)):
        begin, end = begins[number], begins[number + 1]
        group = query.shape[1] // key.shape[1]
        keys, values = (one[start : start + length].float().repeat_interleave(group, 1) for one in (key, value))
        scores = torch.einsum("qhw,khw->hqk", query[begin:end].float(), keys) * query.shape[-1] ** -0.5
        last = torch.arange(end - begin, device=query.device)[:, None] + length - (end - begin)
        places = torch.arange(length, device=query.device)[None]
        hidden = torch.zeros_like(scores[0], dtype=torch.bool)
        if causal:
            hidden |= places > last
        if window is not None:
            hidden |= places <= last - window
        scores = scores.masked_fill(hidden, -torch.inf)
        sees = ~hidden.all(-1)
        output[begin:end][sees] = (scores.softmax(-1)[:, sees] @ values.transpose(0, 1)).transpose(0, 1)
        total[:, begin:end][:, sees] = scores.logsumexp(-1)[:, sees]
    return output, total


@contextmanager
def flash_for_rehearsals() -> Iterator[None]:
    """Within this torch's flash attention runs on a CPU, which has none, by `attend`."""

    def forward(query, key, value, cum_q, cum_k, max_q, max_k, dropout, causal, debug, **more):  # type: ignore[no-untyped-def]
        left = more.get("window_size_left")
        window = left + 1 if left is not None and left >= 0 else None
        causal = causal or more.get("window_size_right") == 0
        scaled = query * (more["scale"] * query.shape[-1] ** 0.5)
        used = more["seqused_k"].tolist()
        output, total = attend(scaled, key, value, cum_q.tolist(), cum_k.tolist()[:-1], used, causal, window)
        empty = query.new_empty(0)
        return output.to(query.dtype), total, empty, empty, empty

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward, "CPU")
    try:
        yield
    finally:
        library._destroy()


def kernel(probe: Probe) -> Rows:
    """Torch's flash attention with lengths and gaps, grouped heads and log-sum-exp, against float32."""
    rows, keys = probe.sizes["kernel_rows"], probe.sizes["kernel_keys"]
    cases = [
        (f"{heads} heads on {kv}, {width} wide, {kind}", heads, kv, width, kind)
        for heads, kv, width in ((9, 3, 64), (32, 8, 128), (8, 8, 64), (8, 1, 256))
        for kind in ("one query", "causal", "window", "all")
    ]
    with flash_for_rehearsals() if probe.rehearse else ExitStack():
        for name, heads, kv, width, kind in cases:
            try:
                yield {"case": name, **_kernel(probe, rows, keys, heads, kv, width, kind)}
            except (RuntimeError, NotImplementedError, TypeError) as error:
                yield {"case": name, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}


def _kernel(probe: Probe, rows: int, keys: int, heads: int, kv: int, width: int, kind: str) -> dict[str, Any]:
    used = torch.randint(1, keys, (rows,), generator=probe.random)
    counts = torch.ones_like(used) if kind == "one query" else used.clamp_max(7)
    begins = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    # With gaps between the sequences, as rows that may grow have them.
    starts = torch.arange(rows + 1) * (keys + 3)
    made = torch.Generator(probe.device).manual_seed(3)

    def noise(tokens: int, many: int) -> torch.Tensor:
        return torch.randn(tokens, many, width, device=probe.device, generator=made).to(probe.half)

    total = int(begins[-1])
    query, key, value = noise(total, heads), noise(int(starts[-1]), kv), noise(int(starts[-1]), kv)
    causal, window = kind in ("causal", "window"), keys // 3 if kind == "window" else None
    at_most, most_keys = int(counts.max()), int(used.max())
    packed = kind == "one query" and heads != kv
    if packed:
        # The heads of a group as so many queries of one, as a decoding step has them.
        group = heads // kv
        flat = query.view(total, kv, group, width).transpose(1, 2).reshape(total * group, kv, width)
        begins, at_most = begins * group, group
    else:
        flat = query
    given = [one.to(probe.device, torch.int32) for one in (begins, starts, used)]

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        output, total, *_ = torch.ops.aten._flash_attention_forward(
            flat, key, value, given[0], given[1], at_most, most_keys, 0.0, causal and window is None, False,
            scale=width**-0.5, window_size_left=-1 if window is None else window - 1,
            window_size_right=0 if causal else -1, seqused_k=given[2],
        )  # fmt: skip
        return output, total

    output, lse = call()
    wanted, expected = attend(flat, key, value, begins.tolist(), starts[:-1].tolist(), used.tolist(), causal, window)
    seen = torch.isfinite(expected)
    started = probe.now()
    for _ in range(20):
        call()
    milliseconds = (probe.now() - started) / 20 * 1e3
    off_lse = float((lse.float() - expected)[seen].abs().max())
    off = float((output.float() - wanted).norm() / wanted.norm())
    # bfloat16 has eight bits; a mask or a length that is off by one would be seen in either.
    return {"output_off": off, "lse_off": off_lse, "right": off < 0.01 and off_lse < 0.02,
            "milliseconds": round(milliseconds, 4)}  # fmt: skip


def equal(probe: Probe) -> Rows:
    """The same replies in every way, twice, and where they part from the model's own; what is to be refused is."""
    from arte_plugin.engines.transformers import TransformersEngine
    from benchmarks.gpu_check.same_replies import compare

    model, tokenizer = probe.student(probe.half)
    size = probe.sizes
    # `generate` writes them one by one, 25 ms a token.
    asked = probe.families(tokenizer, 6, 2 if probe.rehearse else 4, size["prefix"] // 2, size["own"])
    for name in WAYS:
        texts: list[list[str]] = []

        def fast(model: Any, tokenizer: Any, families: Sequence[Sequence[str]], new: int, name: str = name,
                 texts: list[list[str]] = texts) -> tuple[list[str], dict[str, Any]]:  # fmt: skip
            with way(name, probe):
                for _ in range(2):
                    engine = TransformersEngine(model, tokenizer)
                    texts.append([one.text for one in engine.generate(requests(families, new))])
                return texts[0], engine.describe()

        try:
            found = compare(model, tokenizer, asked, size["new"] // 2, fast)
        except NotImplementedError as error:
            yield {"way": name, "error": str(error)}
            continue
        used = {key: found.how[key] for key in ("shared", "varlen", "why_not") if key in found.how}
        yield {"way": name, "replies": found.replies, "same": found.same, "largest_margin": found.largest_margin,
               "first_wrong": found.first_wrong, "same_twice": texts[0] == texts[1], "used": used}  # fmt: skip
    from transformers import AutoModelForCausalLM, Gemma2Config

    config = Gemma2Config(
        **{**SHAPES["tiny"], "head_dim": 16}, max_position_embeddings=512, query_pre_attn_scalar=16,
        eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    with torch.device(probe.device):
        capped = AutoModelForCausalLM.from_config(config, dtype=probe.half, attn_implementation="eager").eval()
    engine = TransformersEngine(capped, Numbers())
    engine.generate(requests([["5 6 7 8 9 10", "5 6 7 8 9 11"]], 4))
    described = engine.describe()
    yield {"model": "Gemma-2's shape, with capped scores", "varlen": described.get("varlen", False),
           "why_not": described.get("why_not", {}), "right": not described.get("varlen", False)}  # fmt: skip


def student(probe: Probe) -> Rows:
    """Probes a second of the student, with one prefix in flight and with many, and where a step's time goes."""
    model, tokenizer = probe.student(probe.half)
    size = probe.sizes
    many = probe.families(tokenizer, size["families"], size["siblings"], size["prefix"], size["own"])
    one = probe.families(tokenizer, 1, size["families"] * size["siblings"] // 4, size["prefix"], size["own"])
    for label, asked in (("one family", one), ("all families", many)):
        for name in ("varlen", "plain"):
            # The plain way takes longer the more prefixes there are; and steps are looked at with all rows in flight.
            few = asked[:6]
            some = asked if name == "varlen" else few
            try:
                yield {"prefixes": label, **timed(probe, model, tokenizer, name, requests(some, size["new"]))}
                yield {"prefixes": label, "way": name, **_steps(probe, model, tokenizer, name, few)}
            except NotImplementedError as error:
                yield {"prefixes": label, "way": name, "error": str(error)}


def _steps(probe: Probe, model: Any, tokenizer: Any, name: str, asked: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Ten decoding steps in torch's profiler: milliseconds of the processor and of the GPU, and kernels started."""
    from torch.profiler import ProfilerActivity, profile

    from arte_plugin.engines.transformers import TransformersEngine

    first, steps = (6, 3) if probe.rehearse else (40, 10)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if probe.device == "cuda" else [])]
    account = profile(activities=activities)
    seen = {"count": 0, "rows": 0}
    times: list[float] = []

    def look(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        decodes = given["input_ids"].shape[-1] <= sum(map(len, asked))
        seen["count"] += decodes
        if seen["count"] == first and not times:
            times.append(probe.now())
            account.start()
        elif seen["count"] == first + steps and len(times) == 1:
            account.stop()
            times.append(probe.now())
            seen["rows"] = given["input_ids"].shape[-1]

    hook = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with way(name, probe):
            TransformersEngine(model, tokenizer).generate(requests(asked, max(probe.sizes["new"], first + steps + 4)))
    finally:
        hook.remove()
    if len(times) < 2:
        return {"steps": "too few of them"}
    events = account.events() or []
    kernels = [one for one in events if str(one.device_type).endswith("CUDA")]
    on_cpu = sum(one.self_cpu_time_total for one in account.key_averages())
    return {
        "profiled_steps": steps, "rows": seen["rows"], "milliseconds": round((times[1] - times[0]) / steps * 1e3, 3),
        "cpu_milliseconds": round(on_cpu / steps / 1e3, 3), "kernels": round(len(kernels) / steps, 1),
        "gpu_milliseconds": round(sum(one.time_range.elapsed_us() for one in kernels) / steps / 1e3, 3),
    }  # fmt: skip


def teacher(probe: Probe) -> Rows:
    """Tokens a second of an 8B with a LoRA adapter, in bfloat16 and, where bitsandbytes is there, in NF4."""
    for packed in (False, True):
        try:
            model = _teacher(probe, packed)
        except (ImportError, RuntimeError, ValueError) as error:
            yield {"packed": packed, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            continue
        ids = torch.randint(3, 500, (1, 16), generator=probe.random).to(probe.device)
        with torch.inference_mode():
            with_adapter = model(input_ids=ids).logits.float()
            with model.disable_adapter():
                without = model(input_ids=ids).logits.float()
        moved = float((with_adapter - without).norm() / without.norm())
        yield {"packed": packed, "adapter_changes": moved, "right": moved > 0, **probe.memory()}
        for rows in probe.sizes["teacher_rows"]:
            # As the teacher is asked: prompts have little in common.
            asked = [[probe.text(probe.sizes["teacher_prompt"], Numbers())] for _ in range(rows)]
            for name in ("varlen", "plain"):
                try:
                    found = timed(probe, model, Numbers(), name, requests(asked, probe.sizes["teacher_new"]), 2)
                    yield {"packed": packed, "rows": rows, **found}
                except (NotImplementedError, torch.OutOfMemoryError) as error:
                    yield {"packed": packed, "rows": rows, "way": name, "error": str(error).splitlines()[0][:200]}
        del model
        _give_back(probe)


def _teacher(probe: Probe, packed: bool) -> Any:
    from peft import LoraConfig, get_peft_model

    model = probe.model(probe.sizes["teacher"], probe.half)
    if packed:
        from bitsandbytes.nn import Linear4bit

        head = model.get_output_embeddings()
        for name, layer in list(model.named_modules()):
            if isinstance(layer, torch.nn.Linear) and layer is not head:
                made = Linear4bit(layer.in_features, layer.out_features, bias=False, compute_dtype=probe.half,
                                  quant_type="nf4")  # fmt: skip
                made.load_state_dict(layer.state_dict())
                parent, _, last = name.rpartition(".")
                setattr(model.get_submodule(parent), last, made.to(probe.device))
        _give_back(probe)
    config = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model, config).eval()


def memory(probe: Probe) -> Rows:
    """What stays behind of a model, by both counts, and whether another process can have the room meanwhile."""
    from arte_plugin.engines.transformers import TransformersEngine

    yield {"when": "before", **probe.memory()}
    for turn in (1, 2):
        model, tokenizer = probe.student(probe.half)
        yield {"when": f"model {turn} loaded", **probe.memory()}
        engine = TransformersEngine(model, tokenizer)
        asked = probe.families(tokenizer, 2, 2 if probe.rehearse else 64, probe.sizes["prefix"], probe.sizes["own"])
        engine.generate(requests(asked, probe.sizes["new"]))
        yield {"when": f"model {turn} has written", **probe.memory()}
        engine.close()
        del model, engine
        _give_back(probe)
        yield {"when": f"model {turn} closed", **probe.memory()}
    share = probe.sizes["beside"]
    code = (
        "import torch\n"
        f"device, share = {probe.device!r}, {share}\n"
        "room = torch.cuda.get_device_properties(0).total_memory if device == 'cuda' else 1 << 20\n"
        "one = torch.empty(max(1, int(share * room)), dtype=torch.uint8, device=device)\n"
        "print(one.numel())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    said = done.stderr.strip().splitlines()
    yield {"when": f"a child asks for {100 * share:.0f} % of the GPU", "right": done.returncode == 0,
           "bytes": int(done.stdout or 0), "said": "" if done.returncode == 0 else said[-1][:300]}  # fmt: skip


def interrupt(probe: Probe) -> Rows:
    """How long an error in the middle of a batch takes to come out, and whether the engine goes on afterwards."""
    from arte_plugin.engines.transformers import TransformersEngine

    model, tokenizer = probe.student(probe.half)
    families = probe.families(tokenizer, 4, 4, probe.sizes["prefix"], probe.sizes["own"])
    asked = [*requests(families[:1], 2), *requests(families[1:], 4 * probe.sizes["new"])]
    engine = TransformersEngine(model, tokenizer)
    engine.generate(asked[:2])

    def stop(*_: Any) -> None:
        began.append(probe.now())
        raise KeyboardInterrupt

    began: list[float] = []
    try:
        engine.generate(asked, stop)
    except KeyboardInterrupt:
        seconds = probe.now() - began[0]
        yield {"seconds_to_stop": round(seconds, 3), "right": seconds < 2}
    again = engine.generate(asked[:2])
    yield {"goes_on": len(again) == 2, "right": len(again) == 2}


def evaluation(probe: Probe) -> Rows:
    """Test questions as lm-evaluation-harness has them answered, by `generate` in padded batches, and by the engine."""
    from transformers import GenerationConfig

    model, tokenizer = probe.student(probe.half)
    size = probe.sizes
    rows = max(size["evaluation_rows"])
    families = probe.families(tokenizer, 1, rows, size["prefix"], size["own"])
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in families[0]]
    settings = GenerationConfig(do_sample=False, max_new_tokens=size["new"], pad_token_id=0)
    model.generation_config = GenerationConfig()
    for batch in size["evaluation_rows"]:
        some = encoded[:batch]
        width = max(map(len, some))
        ids = torch.tensor([[0] * (width - len(one)) + one for one in some], device=probe.device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in some], device=probe.device)
        started = probe.now()
        with torch.inference_mode():
            model.generate(ids, attention_mask=mask, generation_config=settings)
        seconds = probe.now() - started
        yield {"way": "generate", "rows": batch, "seconds": round(seconds, 3),
               "new_tokens_per_second": round(batch * size["new"] / seconds, 1)}  # fmt: skip
    for name in ("varlen", "plain"):
        try:
            yield {"rows": rows, **timed(probe, model, tokenizer, name, requests(families, size["new"]))}
        except NotImplementedError as error:
            yield {"rows": rows, "way": name, "error": str(error)}


def precision(probe: Probe) -> Rows:
    """A fine-tuning in full at 2e-5: what bfloat16 weights, float32 ones under autocast and Kahan sums make of it."""
    size = probe.sizes
    vocabulary = 500
    ids = torch.randint(
        3, vocabulary, (size["steps"], size["train_rows"], size["train_tokens"]), generator=probe.random
    )
    for name, dtype in (("bfloat16 weights", probe.half), ("float32 weights, autocast", torch.float32),
                        ("bfloat16 weights, Kahan", probe.half)):  # fmt: skip
        # Weights as large as a trained one's, beside which an update is as small.
        model, _ = probe.student(dtype, initializer_range=0.02)
        model.train()
        before = [one.detach().clone() for one in model.parameters()]
        step = Kahan(model) if "Kahan" in name else None
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)
        losses = []
        started = probe.now()
        for number, rows in enumerate(ids):
            rate = 2e-5 * (1 - number / len(ids))
            optimizer.param_groups[0]["lr"] = rate
            given = rows.to(probe.device)
            with torch.autocast(probe.device, torch.bfloat16, enabled="autocast" in name):
                loss = model(input_ids=given, labels=given).loss
            loss.backward()
            if step:
                step(rate)
            else:
                optimizer.step()
            model.zero_grad()
            losses.append(float(loss.detach()))
        seconds = probe.now() - started
        moved = whole = 0.0
        changed = entries = 0
        for one, other in zip(model.parameters(), before, strict=True):
            # As they are saved and generated with: in the format of the weights.
            difference = one.detach().double() - other.double()
            moved += float(difference.square().sum())
            whole += float(other.double().square().sum())
            changed += int((difference != 0).sum())
            entries += one.numel()
        yield {"weights": name, "share_changed": round(changed / entries, 4), "relative": (moved / whole) ** 0.5,
               "loss_first": losses[0], "loss_last": losses[-1], "seconds": round(seconds, 2)}  # fmt: skip
        del model, before, step, optimizer
        _give_back(probe)


class Kahan:
    """AdamW in bfloat16 that keeps what each step has rounded away, as torch-optimi does."""

    def __init__(self, model: Any, betas: tuple[float, float] = (0.9, 0.99)):
        self._betas, self._step = betas, 0
        self._states = [(one, *(torch.zeros_like(one) for _ in range(3))) for one in model.parameters()]

    @torch.no_grad()
    def __call__(self, rate: float) -> None:
        """One step at this rate."""
        self._step += 1
        (one, two), step = self._betas, self._step
        for weight, mean, square, lost in self._states:
            if weight.grad is None:
                continue
            mean.lerp_(weight.grad, 1 - one)
            square.mul_(two).addcmul_(weight.grad, weight.grad, value=1 - two)
            root = (square / (1 - two**step)).sqrt_().add_(1e-8)
            lost.addcdiv_(mean / (1 - one**step), root, value=-rate)
            before = weight.clone()
            weight.add_(lost)
            lost.add_(before - weight)


def likelihood(probe: Probe) -> Rows:
    """Log-likelihoods summed in bfloat16 and in float32, and how many choices of four that turns."""
    model, tokenizer = probe.student(probe.half)
    count = probe.sizes["continuations"]
    sums: dict[str, list[float]] = {"bfloat16": [], "float32": []}
    for _ in range(count):
        tokens = tokenizer(probe.text(60 if not probe.rehearse else 16, tokenizer), add_special_tokens=False)[
            "input_ids"
        ]
        ids = torch.tensor([tokens], device=probe.device)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, -9:-1]
        written = ids[0, -8:, None]
        for name, some in (("bfloat16", logits.bfloat16()), ("float32", logits.float())):
            sums[name].append(float(some.log_softmax(-1).gather(1, written).sum()))
    off = [abs(one - other) for one, other in zip(sums["bfloat16"], sums["float32"], strict=True)]
    fours = range(0, count - 3, 4)
    turned = sum(
        max(range(4), key=lambda n: sums["bfloat16"][at + n]) != max(range(4), key=lambda n: sums["float32"][at + n])
        for at in fours
    )
    yield {"continuations": count, "largest_off": max(off), "mean_off": sum(off) / count, "choices": len(fours),
           "turned": turned}  # fmt: skip


#: In the order of what their answers are worth, each with its budget in seconds.
ITEMS: dict[str, tuple[float, Callable[[Probe], Rows]]] = {
    "machine": (25, machine), "kernel": (30, kernel), "equal": (60, equal), "student": (120, student),
    "teacher": (110, teacher), "memory": (40, memory), "interrupt": (20, interrupt), "evaluation": (35, evaluation),
    "precision": (60, precision), "likelihood": (20, likelihood),
}  # fmt: skip


# --- Running them -----------------------------------------------------------------------------------------------------


class Log:
    """Lines of JSON that are there as soon as they are written."""

    def __init__(self, file: Path):
        self._file = file.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def write(self, **row: Any) -> None:
        """One line; the seconds since the start come with it."""
        line = json.dumps({"at": round(time.monotonic() - self._started, 2), **row}, default=str)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            print(line, flush=True)


def run(probe: Probe, items: dict[str, tuple[float, Callable[[Probe], Rows]]], log: Log, seconds: float) -> list[str]:
    """Run `items` within `seconds`; the names of those that did not come to their end."""
    until = time.monotonic() + seconds
    failed = []

    def out_of_time(*_: Any) -> None:
        raise OutOfTime

    signal.signal(signal.SIGALRM, out_of_time)
    for name, (budget, item) in items.items():
        left = min(budget, until - time.monotonic())
        if left <= 0:
            log.write(item=name, end="not begun: no time was left")
            failed.append(name)
            continue
        started = time.monotonic()
        end = "done"
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            for row in item(probe):
                log.write(item=name, **row)
        except OutOfTime:
            end = f"cut off after its {left:.0f} s"
        except Exception as error:  # noqa: BLE001  Whatever it is, the other items are worth as much.
            end = f"failed: {type(error).__name__}: {str(error)[:500]}"
            log.write(item=name, traceback=traceback.format_exc()[-3000:])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if end != "done":
            failed.append(name)
        _give_back(probe)
        log.write(item=name, end=end, seconds=round(time.monotonic() - started, 2), **probe.memory())
    return failed


def _give_back(probe: Probe) -> None:
    gc.collect()
    if probe.device == "cuda":
        torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the items that are asked for; 0 when all came to their end, else 1, or `CUT` where the clock ended it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu_probe.jsonl")
    parser.add_argument("--seconds", type=float, default=540.0, help="after which the process ends (default: 540)")
    parser.add_argument("--only", help=f"some of {', '.join(ITEMS)}, with commas between")
    parser.add_argument("--model", help="folder of a real small model, such as SmolLM2-135M-Instruct")
    parser.add_argument("--rehearse", action="store_true", help="in small, on the CPU")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else list(ITEMS)
    if unknown := sorted(set(wanted) - set(ITEMS)):
        parser.error(f"there is no {', '.join(unknown)}; --only takes some of {', '.join(ITEMS)}")
    if not options.rehearse and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device here; --rehearse goes without one")
    options.out.mkdir(parents=True, exist_ok=True)
    log = Log(options.out / "gpu_probe.jsonl")
    log.write(begins=wanted, seconds=options.seconds, rehearsal=options.rehearse)

    def end() -> None:
        log.write(end="the clock has run out")
        os._exit(CUT)

    clock = threading.Timer(options.seconds, end)
    clock.daemon = True
    clock.start()
    device, sizes = ("cpu", SMALL) if options.rehearse else ("cuda", FULL)
    probe = Probe(device, sizes, options.model, options.rehearse)
    slower = PATIENCE if options.rehearse else 1
    items = {name: (slower * budget, item) for name, (budget, item) in ITEMS.items() if name in wanted}
    failed = run(probe, items, log, max(options.seconds / 2, options.seconds - GRACE))
    log.write(end="done" if not failed else "done, but for " + ", ".join(failed))
    clock.cancel()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
