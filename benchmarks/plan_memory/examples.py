"""What `arte plan` says of the memory of every recipe in `yaml_examples/`, by the published sizes of their models.

    python -m benchmarks.plan_memory.examples

Leaves `examples.json`, and one whole plan as text. The architectures stand here because their config.json files lie on
the Hub, some of them behind a licence; they say no more than numbers of layers, heads and widths.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "yaml_examples"

#: The recipe whose whole plan is kept, to be shown in the docs.
SHOWN = "24gb-qlora"


def _shape(kind: str, vocabulary: int, width: int, inner: int, layers: int, heads: int, kv: int, **more: Any) -> dict:
    return {
        "model_type": kind, "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv, **more,
    }  # fmt: skip


TIED, APART = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
SHAPES: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.1-8B-Instruct": _shape("llama", 128256, 4096, 14336, 32, 32, 8, **APART),
    "meta-llama/Meta-Llama-3-70B-Instruct": _shape("llama", 128256, 8192, 28672, 80, 64, 8, **APART),
    "meta-llama/Llama-3.2-3B-Instruct": _shape("llama", 128256, 3072, 8192, 28, 24, 8, head_dim=128, **TIED),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _shape("llama", 49152, 2048, 8192, 24, 32, 32, **TIED),
    "google/gemma-2b": _shape("gemma", 256000, 2048, 16384, 18, 8, 1, head_dim=256, **TIED),
    "google/codegemma-2b": _shape("gemma", 256000, 2048, 16384, 18, 8, 1, head_dim=256, **TIED),
    "google/gemma-7b": _shape("gemma", 256000, 3072, 24576, 28, 16, 16, head_dim=256, **TIED),
    "Qwen/Qwen1.5-1.8B": _shape("qwen2", 151936, 2048, 5504, 24, 16, 16, **APART),
    "Qwen/Qwen2.5-0.5B-Instruct": _shape("qwen2", 151936, 896, 4864, 24, 14, 2, **TIED),
    "Qwen/Qwen2.5-1.5B-Instruct": _shape("qwen2", 151936, 1536, 8960, 28, 12, 2, **TIED),
    "Qwen/Qwen2.5-32B-Instruct": _shape("qwen2", 152064, 5120, 27648, 64, 40, 8, **APART),
}


def main() -> int:
    """Plan every example and keep what it says of memory, in GiB."""
    from arte_plugin.config.check import check_config
    from arte_plugin.plan.make import make_plan
    from arte_plugin.plan.memory import GIB
    from arte_plugin.plan.text import as_text

    # Whatever the terminal, a page has this much room.
    os.environ["COLUMNS"] = "100"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, shape in SHAPES.items():
            file = Path(folder) / name.replace("/", "--") / "config.json"
            file.parent.mkdir()
            file.write_text(json.dumps(shape))
            files[name] = str(file)
        for example in sorted(EXAMPLES.glob("*.yaml")):
            cfg = yaml.safe_load(example.read_text(encoding="utf-8"))
            first = example.read_text(encoding="utf-8").splitlines()[0]
            several = re.match(r"# Hardware: (\d+) GPUs", first)
            gpus = int(several[1]) if several else 1
            args = check_config(cfg).arte
            plan = make_plan(cfg, args, gpus, files)
            if plan.missing:
                print("\n".join(plan.missing))
                return 1
            for need in plan.needs:
                figures = {name: round(getattr(need, name) / GIB, 1) for name in ("weights", "kept", "total", "most")}
                rows.append({"example": example.stem, "gpus": gpus, "step": need.step, "model": need.model, **figures})
            if example.stem == SHOWN:
                (HERE / f"{SHOWN}.txt").write_text(as_text(plan, args), encoding="utf-8")
            print(example.stem, *rows[-len(plan.needs) :], sep="\n  ", flush=True)
    (HERE / "examples.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
