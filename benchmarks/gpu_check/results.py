"""What a finished run of the loop came to, read from its folder: manifest, trainer states, logs, rows."""

import json
import math
import os
import platform
import re
import subprocess
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from arte_plugin.models.memory import kept
from arte_plugin.run.manifest import Manifest
from arte_plugin.stages import STAGES

VERSIONED = (
    "arte-plugin", "axolotl", "torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "flash-attn",
    "flash-attn-4", "kernels", "triton", "lm_eval",
)  # fmt: skip


def describe_device(device: str) -> dict[str, Any]:
    """Name, memory in bytes, driver and versions of what the loop runs on."""
    import torch

    found: dict[str, Any] = {"kind": device, "name": _cpu(), "cores": len(os.sched_getaffinity(0))}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "name": properties.name,
            "memory": properties.total_memory,
            "capability": f"{properties.major}.{properties.minor}",
            "count": torch.cuda.device_count(),
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "versions": versions}


def collect(folder: Path) -> dict[str, Any]:
    """All figures of the run in `folder`, its `output_dir`; what is not there yet is left out."""
    arte = folder / "arte"
    stages = Manifest(arte / "manifest.json").stages()
    found: dict[str, Any] = {"stages": {}, "loaded": {}}
    for name, record in stages.items():
        row: dict[str, Any] = {"seconds": record.seconds, "memory": record.memory}
        if record.memory.get("after") is not None:
            row["memory_kept"] = kept(record.memory)
        if record.memory.get("device_after") is not None:
            row["device_kept"] = kept(record.memory, on_device=True)
            row["first_on_device"] = record.memory["device_before"] == 0
        asked, seconds = record.usage.get("asked", 0), record.usage.get("seconds", 0.0)
        if asked and seconds:
            row |= {
                "asked": int(asked),
                "prompt_tokens": int(record.usage["prompt_tokens"]),
                "new_tokens": int(record.usage["new_tokens"]),
                "prompt_tokens_per_second": round(record.usage["prompt_tokens"] / seconds, 1),
                "new_tokens_per_second": round(record.usage["new_tokens"] / seconds, 1),
            }
        row["kept"] = {count.what: count.kept for count in record.counts}
        found["stages"][name] = row
        if record.loaded:
            found["loaded"][name] = list(record.loaded.values())
    found["losses"] = {"dpo": dpo_losses(folder), "sft": logged_losses(arte / STAGES["sft"] / "train.log")}
    found["adapter"] = adapter_change(folder / "adapter_model.safetensors")
    found["moved"] = {name: stages[name].result["change"] for name in ("align", "sft")
                      if name in stages and stages[name].result.get("change")}  # fmt: skip
    found["student_rate"] = student_rate(arte / STAGES["sft"] / "student.yaml")
    found["outcomes"] = dict(_outcomes(arte / STAGES["probe"] / "probes.jsonl"))
    results = arte / STAGES["evaluate"] / "results.json"
    if results.is_file():
        found["results"] = json.loads(results.read_text(encoding="utf-8"))["results"]
    return found


def student_rate(file: Path) -> float | None:
    """The learning rate of the student's fine-tuning, from the config that was written for it."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))["learning_rate"] if file.is_file() else None


def dpo_losses(folder: Path) -> list[float]:
    """The teacher's loss at every step, from the last checkpoint's trainer state, also of a training that was resumed.

    Newer runs keep their last checkpoint, whose state holds all steps.
    """
    states = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: int(path.parent.name[11:]))
    if not states:
        return []
    # `NaN` is written as such, which Python reads.
    history = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"]
    return [float(entry["loss"]) for entry in history if "loss" in entry]


def logged_losses(log: Path) -> list[float]:
    """The student's loss at every step that is in the log of its training; a resumed one has begun a new log."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return [float(one) for one in re.findall(r"\{'loss': '?([\w.+-]+)", text)]


def adapter_change(file: Path) -> dict[str, float]:
    """How far the adapter is from its beginning, where every B is zero: the share of B that is not, and the largest."""
    if not file.is_file():
        return {}
    from safetensors.torch import load_file

    changed, total, largest = 0, 0, 0.0
    for name, tensor in load_file(file).items():
        if "lora_B" in name:
            changed += int((tensor != 0).sum())
            total += tensor.numel()
            largest = max(largest, float(tensor.float().abs().max()), key=lambda one: math.inf if one != one else one)
    return {"changed": changed / total if total else 0.0, "largest": largest}


def _outcomes(probes: Path) -> Counter[str]:
    if not probes.is_file():
        return Counter()
    with probes.open(encoding="utf-8") as lines:
        return Counter(json.loads(line)["outcome"] for line in lines)


def _cpu() -> str:
    if (info := Path("/proc/cpuinfo")).is_file():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if named:
            return named[0].split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return "unknown"
