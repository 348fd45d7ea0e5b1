"""Write `docs/gpu.md` from the results of `make gpu-check`; with `--check`, fail when it is stale.

python -m benchmarks.gpu_check.make_page [--check]

Each file of `benchmarks/gpu_check/results/` is the JSON of one device.
"""

import json
import sys
from pathlib import Path

from arte_plugin.show.tables import markdown_table
from benchmarks.gpu_check.attention import WANTED
from benchmarks.gpu_check.same_replies import NEAR_TIE
from benchmarks.gpu_check.table import page
from benchmarks.gpu_probe import ITEMS
from docs.generated import DOCS, write_or_check

RESULTS = Path(__file__).parent / "results"

HEAD = """\
# On a GPU

`make gpu-check` runs the whole loop on the machine's GPU, from [one YAML](../benchmarks/gpu_check/loop.yaml): the
quickstart's tasks, the recipes' rates and batches, gradient checkpointing, the student in bfloat16, flash attention
where it can be had. Then it looks at what came of it, and fails with the reason where something is not as it must be.
Its parts, of which `--part` picks some:

| part | size | started by | teacher |
|---|---|---|---|
| `qlora` | as asked for | `--launcher python` | 4 bits (NF4, double quantisation), LoRA adapter |
| `lora` | small | Axolotl's default launcher | 16 bits, LoRA adapter |
| `full` | small | Axolotl's default launcher | all weights trained, `sdpa` |
| `replies` | 24 probes each | | student, and teacher in 4 bits: the engine's replies against the models' own |

This page is written from `benchmarks/gpu_check/results` by the `make_page.py` beside it (`make docs`), and a test fails
when it is stale.

## How to run it

```bash
make gpu-check                                         # the demo's models, made if need be
make gpu-check GPU_CHECK="--size small --limit 600"
python -m benchmarks.gpu_check --help                  # without make: what must be there, and every option
```

It works on a machine with PyTorch and transformers but no network, once wheels of the rest and two small models are
there; the help says which. `--limit SECONDS` ends a call in time, with exit code 3: the same call again goes on from
there, with what was asked and trained until then. `--device cpu --size small` rehearses all of it without a GPU, on
4-bit weights too.

## What is checked

- Every stage has been run; there are drafts, pairs and tailored examples; some probes and some of the tuned student's
  answers can be read.
- The losses of both trainings are finite; the adapter has left its initial weights, and by so much that it has an
  effect (|Δw| / |w| of 1e-4). At least half of the student's weights differ after its fine-tuning at the recipe's 2e-5,
  which in bfloat16 alone is lost on nearly all of them.
- Every model is on the GPU, whoever started the run, and has the attention that was asked for. The teacher's linear
  layers, as they were loaded to write, to be trained and to write again, are bitsandbytes' 4-bit ones in `qlora` (NF4,
  the scales quantised as well), and in the other parts not quantised, all of it in bfloat16. The student is in
  bfloat16, and its probes went by the engine's way for a GPU. Kinds of attention are tried in this order, each on two
  layers of the models, the hub's in the version that Axolotl takes: {wanted}.
- The engine's greedy replies are those that `generate` gives for one prompt alone, or part from them where the
  likeliest token was ahead of the next by no more than {near_tie} nats (bfloat16).
- After every stage the GPU's memory is back to within 200 MB of what it was, by PyTorch's count (`memory_reserved`) and
  by the GPU's own (`mem_get_info`), which has CUDA graphs, contexts, other libraries' pages and other processes in it;
  of the first stage, within 1.2 GB, for CUDA's context.

## How to read the tables

- **Peak allocated, peak reserved**: by PyTorch, in the stage's process, the whole stage long (`align`: from before the
  model is loaded until the adapter is saved). Of `sft`, a process of its own, what its trainer logged.
- **Not given back**: memory reserved after the stage, beyond what was reserved before it; **by the GPU's count**,
  memory in use on it, by whomever.
- **Tokens/s**: of the requests that were answered by a model in the call that finished the stage; loading it is part of
  the time.

The same figures of any run on a GPU stand in its `manifest.json` (`memory`, `loaded`), the peaks in its stage table
too.

With time left, `python -m benchmarks.probing.run` measures probes on the same GPU ([performance.md](performance.md)).

## Ten minutes on a GPU without Axolotl

```bash
python -m benchmarks.gpu_probe --out outputs/gpu-probe               # in the root of the repository
python -m benchmarks.gpu_probe --out outputs/gpu-probe --only kernel,equal --model models/student
python -m benchmarks.gpu_probe --out outputs/gpu-probe --rehearse    # all of it in small, without a GPU
```

`benchmarks/gpu_probe.py` wants PyTorch with CUDA, transformers, accelerate and peft, no Axolotl, no network and no
model: it makes models of the shapes of SmolLM2-135M and Llama-3-8B with random weights. Each item is tried for itself,
in the order of what its answer is worth, and has a budget; figures come as lines of JSON, and after `--seconds` (540)
the process ends, come what may.

| item | seconds | what it tells |
|---|---|---|
{items}

## What has not been run

Everything that only a GPU does. Rehearsed on a CPU to the end, in small, are `make gpu-check` with all its parts
(`sdpa`, float32, bitsandbytes' 4-bit weights, the tests' tiny model) and `gpu_probe` with all its items (flash
attention stood in for). What has never been run, and what would find out first:

{not_run}
"""

#: What only a GPU can tell, what stands for it here, and who would find out first.
NOT_RUN = [
    [
        "not run",
        "in its place, on a CPU",
        "who finds out first",
    ],
    [
        "torch's flash attention with lengths, gaps, grouped heads, windows (`aten::_flash_attention_forward`)",
        "the same sums written out, under the same signature",
        "`gpu_probe --only kernel`",
    ],
    [
        "the engine on it: its replies, its own trial, its falling back",
        "the engine on that stand-in",
        "`gpu_probe --only equal`, `gpu-check` `replies`",
    ],
    [
        "rates: tokens a second, kernels a step, rows in flight, what fits beside a model",
        "none; docs/plan.md says what is assumed",
        "`gpu_probe --only student,teacher,evaluation`",
    ],
    [
        "memory after a stage and after an engine, by either count; room for a child beside a parent",
        "counts put in the place of a GPU's",
        "`gpu_probe --only memory`, `gpu-check`",
    ],
    [
        "an error in the middle of a batch on a GPU",
        "the same on a CPU",
        "`gpu_probe --only interrupt`",
    ],
    [
        "float32 weights under autocast, Kahan sums, against bfloat16 weights on a GPU",
        "all three on a CPU, on the tiny model",
        "`gpu_probe --only precision`, `gpu-check` `qlora`",
    ],
    [
        "bitsandbytes' CUDA kernels, NF4 with an adapter, its paged optimizer",
        "its 4-bit layers on a CPU; AdamW",
        "`gpu-check` `qlora`",
    ],
    [
        "where Axolotl's default launcher puts a teacher in 16 bits",
        "what torch says of the machine is patched",
        "`gpu-check` `lora`, `full`",
    ],
    [
        "flash attention in a training; the hub's kernels and their versions; flash-attn-4",
        "the version that would be asked for",
        "`gpu-check`, its choice of attention",
    ],
    [
        "several GPUs: ranks, a teacher spread over them, FSDP, DeepSpeed, tensor-parallel servers",
        "ranks as CPU processes",
        "nobody yet: the recipes",
    ],
    [
        "vLLM and SGLang on a GPU, a served adapter, servers' start",
        "vLLM on a CPU where [recipes.md](recipes.md) says so",
        "nobody yet: the recipes",
    ],
    [
        "teachers and students of the recipes' sizes",
        "shapes without data, and models of 135M and less",
        "nobody yet: the recipes",
    ],
    [
        "Axolotl on a bare machine's transformers 5.17",
        "transformers 5.16 and 5.20",
        "`gpu-check` there",
    ],
]

NONE_YET = """
## Results

This has not been run on a GPU yet.
"""


def main() -> int:
    """Write or check the page."""
    items = "\n".join(
        f"| `{name}` | {budget:.0f} | {' '.join((item.__doc__ or '').split())} |"
        for name, (budget, item) in ITEMS.items()
    )
    wanted = ", ".join(f"`{name}`" for name in WANTED)
    text = HEAD.format(wanted=wanted, near_tie=NEAR_TIE["bfloat16"], items=items, not_run=markdown_table(NOT_RUN))
    files = sorted(RESULTS.glob("*.json"))
    for file in files:
        text += f"\n## {file.stem}\n\n{page(json.loads(file.read_text(encoding='utf-8')), '###')}"
    return write_or_check(DOCS / "gpu.md", text if files else text + NONE_YET)


if __name__ == "__main__":
    sys.exit(main())
