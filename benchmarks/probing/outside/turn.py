"""A turn of a contender in its own environment: SPEC and RESULTS are those of `benchmarks.probing.worker`."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.probing import resident
from benchmarks.probing.replies import read_reply


@dataclass(frozen=True)
class Replies:
    """How replies end."""

    #: Tokens of the longest reply; of every reply with `fixed`.
    max_new_tokens: int
    #: End-of-sequence tokens.
    ends: tuple[int, ...]
    #: Strings that end a reply, which keeps them.
    stop: tuple[str, ...]
    #: Nothing ends a reply but its length.
    fixed: bool


class Engine(Protocol):
    """What answers, with its model loaded."""

    def answer(self, prompts: Sequence[Sequence[int]], replies: Replies) -> list[list[int]]:
        """The tokens of greedy replies to the tokens of prompts, in their order; a stop string's own may be among them.

        Raises `RuntimeError` where one was given up.
        """

    def peak_memory(self) -> int | None:
        """Bytes resident at the peak since `resident.forget_peak`, the model included, or None where none can tell."""


def main(load: Callable[[Mapping[str, Any]], Engine]) -> int:
    """Load what the first file says, do its jobs, and write what came of them to the second."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    started = time.perf_counter()
    engine = load(spec)
    loaded = time.perf_counter() - started
    found = [one | {"load_seconds": loaded} for one in run(spec, engine, tokenizer)]
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
    return 0


def run(spec: Mapping[str, Any], engine: Engine, tokenizer: Any) -> Iterator[dict[str, Any]]:
    """What comes of each job. Tokenising and decoding are timed, as they are for the others.

    Raises `ValueError` where the tokeniser makes another number of tokens of a prompt than that of the others did.
    """

    def tokenise(prompts: Sequence[str]) -> list[list[int]]:
        # Prompts hold their special tokens already.
        return tokenizer(list(prompts), add_special_tokens=False)["input_ids"]

    def decode(tokens: Sequence[int]) -> str:
        return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    for job in spec["jobs"]:
        work = job["work"]
        fixed = work["length"] == "fixed"
        ends = () if fixed else tuple(spec["ends"])
        replies = Replies(job["max_new_tokens"], ends, tuple(job["stop"]), fixed)
        asked = [work["prompts"][place] for place in job["places"]]
        engine.answer(tokenise(job["warm_up"]), replies)
        resident.forget_peak()
        started = time.perf_counter()
        prompts = tokenise(asked)
        tokens = engine.answer(prompts, replies)
        outputs = [read_reply(one, decode, stop=replies.stop, ends=ends, fixed=fixed) for one in tokens]
        seconds = time.perf_counter() - started
        if [len(one) for one in prompts] != [work["prompt_tokens"][place] for place in job["places"]]:
            raise ValueError("its tokeniser makes other tokens of these prompts than the others' does")
        yield {
            "work": f"{work['wanted']}/{work['length']}",
            "seconds": seconds,
            "outputs": [asdict(output) for output in outputs],
            "peak_memory": engine.peak_memory(),
        }
