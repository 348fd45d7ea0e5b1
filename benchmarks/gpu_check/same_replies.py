"""Whether a run's engine writes what the model itself writes: the same greedy replies, but for near-ties.

`python -m benchmarks.gpu_check.same_replies FILE DEVICE ATTENTION STUDENT TEACHER` asks the student, and the teacher in
4 bits, and writes what came of it to FILE. What is held against what is in `FAST` and `plain`.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.config import ROOT

#: Probes of one draft, for each of these lengths of what they share, in tokens; and how long replies may be.
PREFIXES, SIBLINGS, NEW_TOKENS = (64, 128, 256), 8, 32

#: Where the likeliest token is ahead of the next by no more, in nats, either may be written: twice what bfloat16 can't
#: tell apart in logits of 16 to 32; and what sums in another order leave of float32.
NEAR_TIE = {"bfloat16": 0.25, "float16": 0.05, "float32": 0.01}

#: Answers prompts; the replies' texts, and what is to be told of how it was done.
Fast = Callable[[Any, Any, Sequence[Sequence[str]], int], tuple[list[str], dict[str, Any]]]


@dataclass(frozen=True)
class Written:
    """A reply of the model itself: for each token the text up to its end, and by how much it was ahead, in nats."""

    texts: list[str]
    margins: list[float]


@dataclass(frozen=True)
class Comparison:
    """How many replies were the same, and how far from a tie the others parted."""

    replies: int
    same: int
    #: Of replies that part: by how much the model's own token was ahead, the largest; None where none does.
    largest_margin: float | None
    near_tie: float
    #: Of the replies that part elsewhere than in a near-tie, the first: where, and both texts.
    first_wrong: dict[str, Any] | None
    #: What the engine told of the model and of how it was run.
    how: dict[str, Any]


def by_engine(
    model: Any, tokenizer: Any, families: Sequence[Sequence[str]], new_tokens: int
) -> tuple[list[str], dict[str, Any]]:
    """The engine of a run, with its own choice of how."""
    from arte_plugin.engines.base import Request
    from arte_plugin.engines.transformers import TransformersEngine

    requests = [
        Request(prompt, group=str(number), max_new_tokens=new_tokens, temperature=0.0, seed=0)
        for number, prompts in enumerate(families)
        for prompt in prompts
    ]
    engine = TransformersEngine(model, tokenizer)
    return [one.text for one in engine.generate(requests)], engine.describe()


#: What is held against `plain`.
FAST: Fast = by_engine


def plain(model: Any, tokenizer: Any, prompt: str, new_tokens: int) -> Written:
    """What `generate` writes for one prompt alone, without padding, with the model's own attention."""
    import torch
    from transformers import GenerationConfig

    named = model.generation_config.eos_token_id
    ends = sorted({*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id} - {None})
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=new_tokens, eos_token_id=ends or None, pad_token_id=[*ends, 0][0],
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    # `generate` fills in from the checkpoint's own whatever these leave open.
    kept, model.generation_config = model.generation_config, GenerationConfig()
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]], device=model.device)
    try:
        with torch.inference_mode():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    finally:
        model.generation_config = kept
    tokens = made.sequences[0, ids.shape[1] :].tolist()
    best = torch.stack([one[0].float().topk(2).values for one in made.logits])
    written = [[token for token in tokens[: count + 1] if token not in ends] for count in range(len(tokens))]
    texts = [tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False) for some in written]
    return Written(texts, (best[:, 0] - best[:, 1]).tolist())


def parts_at(written: Written, text: str) -> int | None:
    """The token at which `text` parts from the model's own reply; None where it doesn't."""
    if text == written.texts[-1]:
        return None
    for place, so_far in enumerate(written.texts):
        # A character may be spread over tokens, of which the first ones are decoded as one that is replaced.
        if not text.startswith(so_far.rstrip("\N{REPLACEMENT CHARACTER}")):
            return place
    # It went on where the model ended: the end was a token, too.
    return len(written.texts) - 1


def compare(
    model: Any, tokenizer: Any, families: Sequence[Sequence[str]], new_tokens: int, fast: Fast | None = None
) -> Comparison:
    """Hold `fast` (default: `FAST`) against `plain` on prompts that have their beginning in common, family by family.

    The model's own replies come first: what `fast` might change of the model must not change them.
    """
    own = [plain(model, tokenizer, prompt, new_tokens) for prompts in families for prompt in prompts]
    texts, how = (fast or FAST)(model, tokenizer, families, new_tokens)
    near_tie = NEAR_TIE[str(model.dtype).removeprefix("torch.")]
    places = [parts_at(written, text) for written, text in zip(own, texts, strict=True)]
    margins = [(written.margins[place], n) for n, (written, place) in enumerate(zip(own, places, strict=True))
               if place is not None]  # fmt: skip
    wrong = next((n for margin, n in margins if margin > near_tie), None)
    first = None
    if wrong is not None:
        place = places[wrong]
        assert place is not None
        first = {
            "reply": wrong, "token": place, "margin": own[wrong].margins[place], "plain": own[wrong].texts[-1],
            "engine": texts[wrong],
        }  # fmt: skip
    largest = max((margin for margin, _ in margins), default=None)
    return Comparison(len(own), len(own) - len(margins), largest, near_tie, first, how)


def probes(tokenizer: Any) -> list[list[str]]:
    """Prompts of the probe stage, with what they share of the lengths `PREFIXES`."""
    from arte_plugin.language.rendering import Renderer
    from benchmarks.probing.work import make_work, read_task

    task, renderer = read_task(ROOT / "yaml_examples/data/boolean_expressions.jsonl"), Renderer(tokenizer, "auto")
    return [list(make_work(task, renderer, wanted, "real", SIBLINGS).prompts) for wanted in PREFIXES]


def ask(model: Path, device: str, attention: str, four_bit: bool) -> Comparison:
    """Load one of the two models as a run does, and compare."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    from arte_plugin.models.attention_kernels import pin_flash_kernel

    pin_flash_kernel()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    packed = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    more = {"quantization_config": packed, "device_map": {"": device}} if four_bit else {}
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation=attention, **more)
    tokenizer = AutoTokenizer.from_pretrained(model)
    return compare(loaded if four_bit else loaded.to(device), tokenizer, probes(tokenizer), NEW_TOKENS)


def main(target: Path, device: str, attention: str, student: Path, teacher: Path) -> None:
    """Compare both, and write what came of it."""
    found = {
        "student": asdict(ask(student, device, attention, four_bit=False)),
        "teacher, 4 bits": asdict(ask(teacher, device, attention, four_bit=True)),
    }
    target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    out, kind, how = sys.argv[1:4]
    main(Path(out), kind, how, *map(Path, sys.argv[4:]))
