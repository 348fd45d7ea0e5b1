"""What `arte plan` says of memory, held against real models and real training steps on a CPU.

    python -m benchmarks.plan_memory.check --model models/student [--only dpo]

Weights are held against `get_memory_footprint` of a model that is really loaded. A training is two steps of TRL's
DPOTrainer, or of transformers' Trainer, on rows of random words; its peak is PyTorch's own account of its allocator
(`torch.profiler`), which knows what kernels take for themselves too. Every case has a process of its
own. Figures are left in `measured.json`. A GPU's attention and quantised kernels are others; nothing here speaks of
those.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MIB = 2**20

WEIGHTS: list[dict[str, Any]] = [
    {"dtype": "float32"},
    {"dtype": "bfloat16"},
    {"dtype": "bfloat16", "bits": 4, "double": True},
    {"dtype": "bfloat16", "bits": 4, "double": False},
]

TRAININGS: list[dict[str, Any]] = [
    {"kind": kind, "dtype": dtype, "checkpointing": checkpointing, "adapter": adapter, "tokens": 256, **more}
    for kind, dtype, checkpointing, adapter, more in [
        ("dpo", "float32", False, "lora", {}),
        ("dpo", "float32", True, "lora", {}),
        ("dpo", "bfloat16", False, "lora", {}),
        ("dpo", "bfloat16", True, "lora", {}),
        ("dpo", "bfloat16", True, "lora", {"accumulation": 2}),
        ("dpo", "float32", False, None, {}),
        ("dpo", "float32", True, None, {}),
        ("dpo", "bfloat16", False, None, {}),
        ("dpo", "bfloat16", True, None, {}),
        ("sft", "float32", False, None, {"rows": 2}),
        ("sft", "float32", True, None, {"rows": 2}),
        ("sft", "bfloat16", False, None, {"rows": 2}),
        ("sft", "bfloat16", True, None, {"rows": 2}),
        ("sft", "bfloat16", True, None, {"rows": 2, "accumulation": 2}),
        ("sft", "bfloat16", False, "lora", {"rows": 2}),
    ]
]


WRITING: list[dict[str, Any]] = [
    {"kind": "engine", "dtype": dtype, "rows": 8, "prompt": 300, "new": 32} for dtype in ("float32", "bfloat16")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every case, show and keep what was planned and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--only", choices=("weights", "dpo", "sft", "engine"))
    parser.add_argument("--case", help="run this one, as JSON, in this process")
    options = parser.parse_args(arguments)
    if options.case:
        print("\nFOUND " + json.dumps(measure(json.loads(options.case), options.model)))
        return 0
    file = HERE / "measured.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    for case in [*({"kind": "weights", **one} for one in WEIGHTS), *TRAININGS, *WRITING]:
        if options.only not in (None, case["kind"]):
            continue
        command = [sys.executable, "-m", "benchmarks.plan_memory.check", "--model", options.model]
        done = subprocess.run([*command, "--case", json.dumps(case)], capture_output=True, text=True, check=False)
        if "\nFOUND " not in done.stdout:
            print(done.stderr[-2000:])
            return 1
        row = {**case, **json.loads(done.stdout.rpartition("\nFOUND ")[2])}
        print(json.dumps(row), flush=True)
        found = [old for old in found if {key: old.get(key) for key in case} != case or len(old) != len(row)] + [row]
        file.write_text("[\n" + ",\n".join(json.dumps(one) for one in found) + "\n]\n", encoding="utf-8")
    return 0


def measure(case: dict[str, Any], model: str) -> dict[str, float]:
    """Planned and measured MiB of one case, weights included, and their ratio."""
    from arte_plugin.plan import shapes

    shape = shapes.shape_of(model, shapes.find_config(model))
    way = {"weights": _weights, "dpo": _training, "sft": _training}.get(case["kind"], _writing)
    planned, measured = way(case, model, shape)
    return {
        "planned MiB": round(planned / MIB, 1),
        "measured MiB": round(measured / MIB, 1),
        "ratio": round(planned / measured, 3),
    }


def _weights(case: dict[str, Any], model: str, shape: Any) -> tuple[float, float]:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from arte_plugin.plan.machine import packing

    more, cfg = {}, {}
    if case.get("bits") == 4:
        cfg = {"adapter": "qlora", "load_in_4bit": True}
        cfg["bnb_config_kwargs"] = {"bnb_4bit_use_double_quant": case["double"]}
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=case["double"],
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # fmt: skip
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, case["dtype"]), **more)
    measured = float(loaded.get_memory_footprint())
    for module in loaded.modules():
        # What it leaves out: the scales of packed weights.
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        for one in (state, getattr(state, "state2", None)):
            if one is not None:
                measured += sum(t.numel() * t.element_size() for t in (one.absmax, one.code) if t is not None)
    return shape.weights(case["dtype"], packing(cfg)), measured


def _training(case: dict[str, Any], model: str, shape: Any) -> tuple[float, float]:
    from torch.profiler import ProfilerActivity, profile

    from arte_plugin.plan.training_memory import training_need

    rows, accumulation = case.get("rows", 1), case.get("accumulation", 1)
    cfg = {
        "bf16": case["dtype"] == "bfloat16",
        "gradient_checkpointing": case["checkpointing"],
        "micro_batch_size": rows,
        "gradient_accumulation_steps": accumulation,
        "sequence_len": case["tokens"],
        "optimizer": "adamw_torch",
        "attn_implementation": "sdpa",
    }
    if case["adapter"]:
        cfg |= {"adapter": case["adapter"], "lora_r": 16, "lora_target_linear": True}
    need = training_need("", shape, cfg, 1, case["tokens"], dpo=case["kind"] == "dpo")
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": accumulation,
            "max_steps": 2,
            "bf16": cfg["bf16"],
            "use_cpu": True,
            "gradient_checkpointing": case["checkpointing"],
            "gradient_checkpointing_kwargs": {"use_reentrant": False} if case["checkpointing"] else None,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "optim": "adamw_torch",
        }
        trainer, held = (_dpo_trainer if case["kind"] == "dpo" else _sft_trainer)(case, model, settings, 4 * rows)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as account:
            trainer.train()
        peak = allocated_peak(account, Path(folder) / "trace.json")
    return need.most, held + peak


def _writing(case: dict[str, Any], model: str, shape: Any) -> tuple[float, float]:
    """Replies to prompts that share nothing."""
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoTokenizer

    from arte_plugin.engines.base import Request
    from arte_plugin.engines.transformers import TransformersEngine
    from arte_plugin.plan.memory import GIB
    from arte_plugin.plan.writing_memory import writing_need

    rng, tokenizer = random.Random(0), AutoTokenizer.from_pretrained(model)
    loaded = _load(model, case).eval()
    # So that every reply is as long as it may be.
    loaded.generation_config.eos_token_id = None
    rows, prompt, new = case["rows"], case["prompt"], case["new"]
    texts = [_words(rng, prompt) for _ in range(rows)]
    lengths, cfg = (prompt, new, new), {"attn_implementation": "sdpa"}
    with tempfile.TemporaryDirectory() as folder:
        need = writing_need("", "", shape, cfg, case["dtype"], rows, 4 * GIB, lengths, varlen=False)
        engine = TransformersEngine(loaded, tokenizer)
        engine._ends = []
        requests = [Request(text, str(i), new, 0.0, 0) for i, text in enumerate(texts)]
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as account:
            engine.generate(requests)
        return need.most, _bytes(loaded) + allocated_peak(account, Path(folder) / "trace.json")


def allocated_peak(account: Any, file: Path) -> int:
    """The most that PyTorch's allocator had given out at a time during a profile with `profile_memory`, in bytes.

    What was there before is not in it. `file` is for the profiler's own use.
    """
    account.export_chrome_trace(str(file))
    live: dict[int, int] = {}
    held = peak = 0
    for event in json.loads(file.read_text())["traceEvents"]:
        if event.get("name") != "[memory]":
            continue
        place, size = event["args"]["Addr"], event["args"]["Bytes"]
        if size > 0:
            live[place] = size
            held += size
        else:
            held -= live.pop(place, 0)
        peak = max(peak, held)
    return peak


def _words(rng: random.Random, count: int) -> str:
    # Each of these is one token, with its space, of any English vocabulary.
    return "".join(f" {rng.choice(['the', 'of', 'and', 'to', 'in', 'is', 'that', 'for'])}" for _ in range(count))


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")


def _load(model: str, case: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, case["dtype"]), attn_implementation="sdpa")


def _dpo_trainer(case: dict[str, Any], model: str, settings: dict[str, Any], rows: int) -> tuple[Any, float]:
    """The trainer, and bytes that were there before it trains."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    rng, tokens = random.Random(0), case["tokens"]
    # The end of a reply is a token too; the rejected ones are shorter, so that there is something to pad.
    pairs = [
        {
            "prompt": _words(rng, tokens // 2),
            "chosen": _words(rng, tokens - tokens // 2 - 1),
            "rejected": _words(rng, tokens // 4),
        }
        for _ in range(rows)
    ]
    trainer = DPOTrainer(
        _load(model, case),
        ref_model=None if case["adapter"] else _load(model, case),
        args=DPOConfig(**settings, max_length=tokens),
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=_lora() if case["adapter"] else None,
    )
    return trainer, _bytes(trainer.model) + (_bytes(trainer.ref_model) if trainer.ref_model is not None else 0)


def _sft_trainer(case: dict[str, Any], model: str, settings: dict[str, Any], rows: int) -> tuple[Any, float]:
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    rng, tokenizer = random.Random(0), AutoTokenizer.from_pretrained(model)
    lengths = [case["tokens"] - (i % 2) * case["tokens"] // 4 for i in range(rows)]
    ids = [tokenizer(_words(rng, length), add_special_tokens=False)["input_ids"] for length in lengths]
    examples = [{"input_ids": one, "attention_mask": [1] * len(one), "labels": one} for one in ids]
    loaded = _load(model, case)
    trainer = Trainer(
        get_peft_model(loaded, _lora()) if case["adapter"] else loaded,
        args=TrainingArguments(**settings),
        train_dataset=Dataset.from_list(examples),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    return trainer, _bytes(trainer.model)


def _bytes(model: Any) -> float:
    return sum(one.numel() * one.element_size() for one in [*model.parameters(), *model.buffers()])


if __name__ == "__main__":
    sys.exit(main())
