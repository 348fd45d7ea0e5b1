"""Which attention can be had here: each is tried on a layer of the models themselves, in a process of its own.

`python -m benchmarks.gpu_check.attention NAME DEVICE MODEL...` is one such trial.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: In the order in which they are wanted. Those of the kernels hub are taken from the local cache.
WANTED = (
    "flash_attention_2",
    "flash_attention_4",
    "kernels-community/flash-attn3",
    "kernels-community/flash-attn2",
    "sdpa",
)


def choose_attention(device: str, models: Sequence[Path]) -> dict[str, Any]:
    """The first of `WANTED` that works: `used`, and `passed_over`, the reason for each that does not, by name."""
    passed_over: dict[str, str] = {}
    for name in WANTED:
        if name == "sdpa":
            break
        reason = missing(name, device) or trial(name, device, models)
        if not reason:
            return {"used": name, "passed_over": passed_over}
        passed_over[name] = reason
    return {"used": "sdpa", "passed_over": passed_over}


def missing(name: str, device: str) -> str:
    """What `name` lacks here; empty where it is worth a trial."""
    import torch

    if device != "cuda":
        return "there is no GPU"
    capability = torch.cuda.get_device_capability()
    if name == "flash_attention_2":
        if importlib.util.find_spec("flash_attn") is None or not _has_module("flash_attn", "flash_attn_interface"):
            return "the package flash-attn is not installed"
        if _has_module("flash_attn", "cute") and capability[0] in (9, 10):
            return "Axolotl takes flash_attention_4 in its place where that is installed"
    if name == "flash_attention_4":
        if not _has_module("flash_attn", "cute"):
            return "the package flash-attn-4 is not installed"
        if capability[0] < 9:
            return f"it is for compute capability 9.0 and later; this device has {capability[0]}.{capability[1]}"
    if "/" in name:
        if importlib.util.find_spec("kernels") is None:
            return "the package kernels is not installed"
        if not _in_cache(name):
            return "no build of it is in the local cache"
    return ""


def trial(name: str, device: str, models: Sequence[Path], timeout: float = 180.0) -> str:
    """Why a layer of one of `models` can't be trained with it; empty where it can."""
    command = [sys.executable, "-m", __spec__.name, name, device, *map(str, models)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"its trial took more than {timeout:.0f} s"
    if done.returncode == 0:
        return ""
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return f"its trial failed: {said[-1].strip()[:300] if said else f'exit code {done.returncode}'}"


def try_layer(name: str, device: str, model: str) -> None:
    """Two layers of `model`, random, forwards and backwards over a padded batch; raises whatever goes wrong."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from arte_plugin.models.attention_kernels import pin_flash_kernel

    pin_flash_kernel()
    config = AutoConfig.from_pretrained(model)
    config.num_hidden_layers = 2
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    layers = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=name).to(device)
    ids = torch.randint(10, 100, (2, 40), device=device)
    mask = torch.ones_like(ids)
    mask[0, :8] = 0
    loss = layers(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
    loss.backward()
    used = layers.config._attn_implementation
    if used != name:
        raise ValueError(f"{used} was taken in its place")
    if not loss.isfinite() or not all(one.grad.isfinite().all() for one in layers.parameters() if one.grad is not None):
        raise ValueError("its loss or gradients are not finite")


def _has_module(package: str, part: str) -> bool:
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or []) if found else []
    return any((Path(place) / part).is_dir() or (Path(place) / f"{part}.py").is_file() for place in places)


def _in_cache(repository: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(os.environ.get("KERNELS_CACHE") or HF_HUB_CACHE)
    # Builds lie among the models, or, for newer versions of the package, among kernels.
    return any(any(folder.glob(f"{kind}--{repository.replace('/', '--')}/snapshots/*/build/*")) for kind in
               ("models", "kernels"))  # fmt: skip


if __name__ == "__main__":
    for one in sys.argv[3:]:
        try_layer(sys.argv[1], sys.argv[2], one)
