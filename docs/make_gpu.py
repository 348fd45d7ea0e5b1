"""Write `docs/gpu.md` from the results of `make gpu-check`; with `--check`, fail when it is stale.

python docs/make_gpu.py [--check]

Each file of `benchmarks/gpu_check/results/` is the JSON of one device.
"""

import json
import sys
from pathlib import Path

from generated import write_or_check

ROOT = Path(__file__).parents[1]
TARGET = Path(__file__).with_name("gpu.md")
RESULTS = ROOT / "benchmarks" / "gpu_check" / "results"

HEAD = """\
# On a GPU

`make gpu-check` runs the whole loop on the machine's GPU, from [one YAML](../benchmarks/gpu_check/loop.yaml): the
quickstart's tasks, the teacher in 4 bits (NF4, double quantisation) with a LoRA adapter and gradient checkpointing,
the student in bfloat16, flash attention where it can be had, probes by `generate_batch`. Then it looks at what came of
it, and fails with the reason where something is not as it must be. This page is written from
`benchmarks/gpu_check/results` by `docs/make_gpu.py` (`make docs`), and a test fails when it is stale.

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
- The losses of both trainings are finite, and the adapter has left its initial weights.
- The teacher's linear layers, as they were loaded to write, to be trained and to write again, are bitsandbytes' 4-bit
  ones: NF4, the scales quantised as well.
- The attention is the one that was asked for, the student is in bfloat16 on the GPU, and its probes went through
  continuous batching. Kinds of attention are tried in this order, each on two layers of the models:
  {wanted}.
- After every stage the GPU's memory is back to within 200 MB of what it was.

## How to read the tables

- **Peak allocated, peak reserved**: by PyTorch, in the stage's process, the whole stage long (`align`: from before the
  model is loaded until the adapter is saved). Of `sft`, a process of its own, what its trainer logged.
- **Not given back**: memory reserved after the stage, beyond what was reserved before it.
- **Tokens/s**: of the requests that were answered by a model in the call that finished the stage; loading it is part of
  the time.

The same figures of any run on a GPU stand in its `manifest.json` (`memory`, `loaded`), the peaks in its stage table
too.

With time left, `python -m benchmarks.probing.run` measures probes on the same GPU ([performance.md](performance.md)).
"""

NONE_YET = """
## Results

This has not been run on a GPU yet.
"""


def main() -> int:
    # `benchmarks` lies beside the package, and is not installed.
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu_check.attention import WANTED
    from benchmarks.gpu_check.table import page

    text = HEAD.format(wanted=", ".join(f"`{name}`" for name in WANTED))
    files = sorted(RESULTS.glob("*.json"))
    for file in files:
        text += f"\n## {file.stem}\n\n{page(json.loads(file.read_text(encoding='utf-8')), '###')}"
    return write_or_check(TARGET, text if files else text + NONE_YET)


if __name__ == "__main__":
    sys.exit(main())
