"""One contender's turn, in a process of its own: `python -m benchmarks.probing.worker SPEC RESULTS` (JSON files)."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from arte_plugin.language.rendering import Renderer
from benchmarks.probing import measure
from benchmarks.probing.contenders import IN_PROCESS, Contender, Server
from benchmarks.probing.replies import Output
from benchmarks.probing.work import Work


def main() -> int:
    """Do what the first file says, and write what came of it to the second."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(spec["threads"])
    if spec["contender"] == "ceilings":
        found: Any = measure.ceilings(spec["device"], getattr(torch, spec["dtype"]))
    else:
        found = list(run(spec))
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
    return 0


def run(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What comes of each work of `spec`, one after the other on a model that is loaded once."""
    device = spec["device"]
    renderer = load_renderer(spec["model"])
    model = meter = shape = None
    started = measure.now("cpu")
    if not spec["server"]:
        model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=getattr(torch, spec["dtype"]))
        model.to(device).eval()
        meter, shape = measure.Meter(model), measure.Shape.of(model)
        ends = model.generation_config.eos_token_id
    loaded = measure.now(device) - started
    for job in spec["jobs"]:
        work = Work(**job["work"])
        asked = [work.prompts[place] for place in job["places"]]
        if model is not None:
            model.generation_config.eos_token_id = ends if work.length == "real" else None
            contender: Contender = IN_PROCESS[spec["contender"]](model, renderer, work, spec["batch_size"], len(asked))
        else:
            contender = Server(renderer, work, **spec["server"])
        contender.run(job["warm_up"])
        measure.forget_peak(device)
        if meter is not None:
            meter.start()
        started = measure.now(device)
        outputs = contender.run(asked)
        seconds = measure.now(device) - started
        result = {"work": work.name, "seconds": seconds, "outputs": [asdict(output) for output in outputs]}
        if meter is not None and shape is not None:
            result["load_seconds"] = loaded
            counts = meter.counts()
            keys = keys_of_replies([work.prompt_tokens[place] for place in job["places"]], outputs)
            result |= {
                "peak_memory": measure.peak_memory(device),
                "counts": asdict(counts) if counts else None,
                "flops": shape.flops(counts) if counts else None,
                "bytes": shape.bytes_read(counts, keys) if counts else None,
                "shape": asdict(shape),
            }
        contender.close()
        yield result


def load_renderer(model: str) -> Renderer:
    """Writes prompts for `model`, in its chat template if it has one, as the probe stage does."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Renderer(tokenizer, "auto")


def keys_of_replies(prompt_tokens: list[int], outputs: list[Output]) -> int:
    """Tokens in front of each generated token, summed up. The first one comes with the prompt's own call."""
    return sum(
        sum(range(prompt + 1, prompt + output.new_tokens))
        for prompt, output in zip(prompt_tokens, outputs, strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
