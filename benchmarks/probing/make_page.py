"""Write `docs/performance.md` from the results of `make bench`; with `--check`, fail when it is stale.

python -m benchmarks.probing.make_page [--check]

Each file of `benchmarks/probing/results/` is the `results.json` of one machine.
"""

import json
import sys
from pathlib import Path

from benchmarks.probing.table import page
from benchmarks.probing.work import FIXED_TOKENS, REAL_TOKENS
from docs.generated import DOCS, write_or_check

RESULTS = Path(__file__).parent / "results"

HEAD = """\
# How fast probes are answered

Nearly all of a run's time goes into probes: the paper asks 40,000 for one task, and the 40 of one draft share all of
their prompt but the question at its end. This page compares ways of answering them. It is written from
[benchmarks/probing/results](../benchmarks/probing/results) by the `make_page.py` beside it (`make docs`), and a test
fails when it is stale.

## What is compared

On the same prompts, one after the other, each in a process of its own:

- **`generate`, one by one**: the loop that a paper's script would have.
- **`generate`, padded batches**: prompts padded on the left, in the order in which they come.
- **`generate_batch` of transformers**: its continuous batching, with its defaults, given all prompts at
  once; on a CPU its cache is held to a fifth of the memory, for it would take nine tenths. It knows no stop strings, so
  its replies run on and are cut afterwards. Without flash attention it multiplies each token of a step with the keys of
  all requests in the step, and masks away what is not its own (transformers' `integrations/sdpa_paged.py`): the more
  it is given, the slower is a probe.
- **arte_plugin's engine**: `arte_plugin.engines.transformers`, given the 40 siblings together, as the probe stage does;
  it decides itself how many of them are in flight.
- **OpenVINO GenAI** and **vLLM**, on request, each in an environment of its own. See "Against other projects' engines".
- Any OpenAI-compatible server that is named by `--server` and runs already. What it computes can't be counted from
  here, and only vLLM, SGLang and `transformers serve` can be told to keep to a fixed length. Start it anew for each
  run: its cache must not hold the prompts of another.

The prompts are those of the probe stage: a task's description, worked examples up to a prefix of about 128, 512 and
2,048 tokens, and 40 questions behind it. *Real lengths*: a reply ends with its answer's closing tag, at the next
question, at the end-of-sequence token or after {real} tokens, as in a run. *Fixed lengths*: every reply has {fixed}
tokens, so everybody generates as much. Every work and turn has a prefix of its own, so nobody finds one in a cache.

In the results below, nearly all of the time with real lengths behind 128 and 512 tokens goes into prompts: that
student's replies to these prompts have a few tokens. Behind 2,048 they are longer, and a padded batch goes on until the
longest is over. Fixed lengths show decoding.

## How to run it

```bash
make bench                                             # our own questions, the demo's student
make bench BBH=boolean_expressions.json MODEL=~/models/gemma-3-270m
make openvino vllm                                     # install them, in .venv-openvino and .venv-vllm
make bench BENCH="--contenders engine,openvino,vllm --turns 2"
make bench BENCH="--prefixes 512 --naive-siblings 8 --server http://localhost:8000/v1 --server-api vllm"
python -m benchmarks.probing.run --help
```

The plain ways are slow on a few CPU cores: all of it takes two and a half hours on two. What a turn gave is written
when the turn is over, and `--add` goes on from such a `results.json`, with other works or with more turns of the same.
`--naive-siblings` and `--batched-siblings` ask the plain ways less, `--prefixes` and `--lengths` everybody.

`BBH` is a task's file in BBH's own format. It writes `outputs/bench/results.json` and `table.md`, without a word of
the questions or replies; to put a machine on this page, copy the JSON to `benchmarks/probing/results/` and run `make
docs`.

## Against other projects' engines

`--contenders engine,openvino,vllm` runs ours in turns with OpenVINO GenAI's continuous batching (on CPUs) and vLLM's
offline engine, with no server between. What is done for a fair comparison:

- **The same precision.** float32 in weights, arithmetic and cache. Left alone, OpenVINO computes in bfloat16 where the
  processor can, and keeps keys and values in 8 bits; it is told `INFERENCE_PRECISION_HINT` and `KV_CACHE_PRECISION`
  `f32`, and quantises nothing on the way. Its form of the model is exported in float32, once for a model and a version
  (`outputs/bench/openvino`).
- **The same tokens.** Prompts are made into tokens by the model's own tokeniser, with no second begin-of-sequence
  token, and are counted: where a contender counts others, its turn fails. Replies are made into text the same way.
- **The same ends.** The same end tokens and stop strings; with fixed lengths, none. A contender that gives a request up
  for want of room fails.
- **The same threads.** As many as ours. vLLM would bind one to each physical core: on a machine whose two cores are two
  threads of one, it would run with half of what the others have.
- **Prefix caching, with 2 GiB** for keys and values. OpenVINO looks for a prefix when a request comes, so 40 at once
  would find none: the first one is asked for one token before, within its time.
- **As they come otherwise:** vLLM compiled, as is its default.
- **A warm-up that is not timed**, the same for ours, with as many prompts as are asked, once for each kind of lengths:
  OpenVINO compiles kernels when a shape first comes.

Loading, exporting and compiling are not timed; how long they took is said above the ratios. A ratio is our probes/s
over theirs in the same turn: above 1, ours is faster. *Replies equal to ours* have the same text to the last letter.

## How to read the tables

Figures are medians over the turns; in the first table, those of the slowest and the fastest turn stand behind them.
Each turn runs the contenders in another order. Loading the model and a warm-up are not timed; tokenising and decoding
are. Where a note says so, a way was asked fewer than all siblings: that flatters `generate_batch`, and fewer than a
batch's rows are a smaller batch.

- **Prompt tokens computed**: tokens that the model was given for prompts, padding and all, as a share of the prompts'
  tokens. Every token that goes into the model is counted by a hook on it; those of decoding steps are taken off.
  CUDA graphs are replayed without it, so there is no count then.
- **Padding**: of all tokens computed, the share that the attention mask hides, and the steps of rows that were over
  but went on with their batch. Where there is no mask to look at, the last table takes all that is computed beyond
  what remains when the prefix is computed once.
- **Generated tokens/s** leaves out tokens behind the end of a reply.
- **Peak memory**: allocated on the GPU; or resident in memory, where the model is part of it.
- **Of the matmul ceiling**: FLOP/s over those of one large matmul. FLOP = 2 × parameters outside the embeddings ×
  tokens computed + 2 × parameters of the output layer × positions at which logits were made + 4 × layers × heads ×
  head size × keys, where a token has as many keys as its position says. What is computed for padding counts; what a
  kernel computes and masks away does not.
- **Of the copy ceiling**: bytes/s over those of one large copy (read and written). Bytes = all weights once for each
  call of the model + keys and values in front of each generated token. Activations are left out, sliding windows are
  not taken off.
- **Replies equal**: to those of the first contender in the table that was asked the same, in all turns. Another order
  of adding up can tip the balance between two tokens that are as likely as one another, in half precision above all.
"""

NONE_YET = """
## Results

There are none in the repository yet.
"""

#: What is to be said about the results of one machine, by the name of its file, in Markdown.
NOTES: dict[str, str] = {
    "epyc-2-cores": """\
Measured before weights were packed, attention was torch's flash, and all 40 siblings were in flight; the section behind
this one has the engine as it is now. What the engine left of the matmul ceiling with fixed lengths went, by the
profiler, into matmuls of 32 rows, which are slower a multiplication than one large one, and into attention, in small
matmuls for each row.
""",
    "epyc-2-cores-engines": """\
The engine as it is now. It is level with OpenVINO GenAI within a tenth either way, ahead of vLLM behind short prefixes,
and behind it where the prefix has 2,048 tokens. Two turns: differences of a few per cent are none.
""",
    "xeon-2-cores": """\
Measured before weights were packed and attention was torch's flash, too. This processor's large matmul is faster than
the EPYC's, and its memory slower: matmuls of few rows, which read all weights for little, left more of the ceiling, and
by the profiler they were the largest part of the engine's time with fixed lengths. Its 40 siblings were decoded as 32
and then as 8, and a step of 8 takes nearly as long as one of 32.
""",
}

#: Sections behind the results, in Markdown, each beginning with its heading.
MORE = """\
## What the engine does

`arte_plugin/engines/shared_prefix.py` and `plain_attention.py`, for models in this process:

- **A prefix is computed once and stored once.** Its keys and values are not copied for each sibling. Attention is
  computed in two parts, over the prefix that rows share and over what each row has of its own, and put together by
  their log-sum-exp (Juravsky et al., "Hydragen", 2024). Softmax is exact this way; only the order of adding up differs.
- **Nothing is padded.** The tokens of all rows in flight lie behind one another in one sequence, for prompts and for
  decoding steps alike. Attention is the only place where rows are told apart.
- **Nobody waits for the slowest.** A row ends with the token that completes its answer's tag; another one of the batch
  takes its place, of any prefix. On a CPU 64 rows are in flight: more would hardly make a token cheaper.
- **On a CPU, matmuls read weights in their own order.** Linear layers in float32 run on oneDNN, with weights that are
  put in order once and held a second time (`packed_linears.py`; models of up to a billion parameters, 4 GiB); both
  parts of attention are calls of torch's flash attention, which gives the log-sum-exp as well.
- **Memory has a budget.** `engine.cache_gib` bounds the keys and values of what is in flight, with room for the
  prefixes of these rows, the next one and the last; the number of rows follows from it, whatever the number of drafts.
  Rows and requests are streamed as well ([scaling.md](scaling.md)).
- **The same batches, whatever came before.** What is computed together depends on the requests and the config alone, so
  an interrupted run comes to the same bytes.

Sliding windows and capped scores (Gemma 2 and 3) are part of it. On its first request the engine compares its logits
with the model's own; a model whose attention can't be taken over is left to `generate`, in batches by length with at
most a tenth of padding, and a warning says so.

## On a GPU

Not measured: no figure on this page is from a GPU, and what follows has not been run on one.

The way above launches 80 operations a layer and step with one prefix, 250 with seven. On a GPU of the Ampere generation
or newer the engine therefore takes torch's own flash attention for sequences of any length
(`arte_plugin/engines/varlen_attention.py`; nothing to install): one call over all prefixes, with the queries sorted by
prefix, one over what the rows have of their own, put together by their log-sum-exp. That is 13 launches,
whatever the number of prefixes; keys and values are neither gathered nor copied, and no step waits for the GPU until
the tokens are chosen. Greedy and sampled requests, QLoRA, adapters, grouped heads and sliding windows go this way.

- **Tried first.** Its logits are held against the way above, when a model is first asked: with prefixes of several
  lengths and with none, reading and decoding, and with a small window where layers have one. Where they differ, or the
  kernel can't be had, the way above goes on, with a warning that says why.
- **Left to the way above:** CPUs, older GPUs, float32, capped scores (Gemma 2), heads wider than 256. A line in the log
  says which way it is, and why; so does `manifest.json` (`varlen`, `why_not`).
- **Room as it is needed.** Each row takes as many tokens of a common pool as it may need, each prefix its length. The
  pool has 60 % of what is free beside the model, or `engine.cache_gib`; up to 1,024 rows are in flight.

Tests hold it against the way above on a CPU, by a reference of the kernel (`tests/flash_reference.py`): one to seven
prefixes, mixed lengths, grouped heads, windows, float32 and bfloat16. `make bench` runs on a GPU as it stands.
"""


def main() -> int:
    """Write or check the page."""
    text = HEAD.format(real=REAL_TOKENS, fixed=FIXED_TOKENS)
    files = sorted(RESULTS.glob("*.json"))
    for file in files:
        results = json.loads(file.read_text(encoding="utf-8"))
        text += f"\n## {file.stem}\n\n{page(results, '###')}"
        if note := NOTES.get(file.stem):
            text += f"\n{note.strip()}\n"
    if not files:
        text += NONE_YET
    if MORE:
        text += f"\n{MORE.strip()}\n"
    return write_or_check(DOCS / "performance.md", text)


if __name__ == "__main__":
    sys.exit(main())
