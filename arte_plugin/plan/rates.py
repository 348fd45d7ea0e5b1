"""How fast a model reads and writes on one GPU, by engine, precision and size, and how well that is known.

Nothing of it has been measured by us: docs/plan.md says where each figure comes from. `benchmarks/gpu_probe.py` and
`make bench` measure.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from arte_plugin.config.arte import ArteArgs
from arte_plugin.plan import machine, shapes

#: How well a figure is known, best first: ours, from a run; somebody's who has published it; worked out.
Source = Literal["measured", "published", "estimated", "given"]


@dataclass(frozen=True)
class Rate:
    """Tokens a second of one GPU with 80 GB (H100): of prompts, of replies with many of them in flight."""

    prompts: float
    replies: float
    source: Source
    #: What it is the rate of, in words.
    of: str = ""

    def __str__(self) -> str:
        beside = f" ({self.of}: {self.source})" if self.of else ""
        return f"{self.prompts:,.0f} and {self.replies:,.0f}{beside}"


@dataclass(frozen=True)
class Point:
    """The rate of models of one size."""

    parameters: float
    prompts: float
    replies: float
    source: Source


#: By engine and precision, sizes rising. docs/plan.md has the reasons.
POINTS: dict[tuple[str, str], Sequence[Point]] = {
    ("vllm", "bfloat16"): (
        Point(135e6, 100_000, 20_000, "estimated"),
        Point(2e9, 50_000, 10_000, "published"),
        Point(8e9, 20_000, 8_000, "published"),
        # A quarter of what four GPUs do together.
        Point(70e9, 2_000, 600, "estimated"),
    ),
    ("transformers", "bfloat16"): (
        Point(135e6, 60_000, 10_000, "estimated"),
        Point(2e9, 50_000, 8_000, "estimated"),
        Point(8e9, 18_000, 5_000, "estimated"),
        # Of all GPUs that it lies on together: one works at a time.
        Point(70e9, 2_000, 600, "estimated"),
    ),
    ("transformers", "float32"): (
        Point(135e6, 30_000, 8_000, "estimated"),
        Point(2e9, 8_000, 4_000, "estimated"),
        Point(8e9, 2_500, 2_000, "estimated"),
    ),
    ("transformers", "nf4"): (
        Point(2e9, 35_000, 6_000, "estimated"),
        Point(8e9, 15_000, 3_000, "estimated"),
        Point(70e9, 1_800, 400, "estimated"),
    ),
    ("transformers", "int8"): (
        Point(8e9, 8_000, 1_000, "estimated"),
        Point(70e9, 900, 150, "estimated"),
    ),
}

#: Engines and precisions that have no figures of their own, and whose they take.
_LIKE_ENGINE = {"sglang": "vllm", "openai": "vllm"}
_LIKE_PRECISION = {"float16": "bfloat16"}

#: Of a model whose size is nowhere to be seen.
UNKNOWN = {"teacher": 8e9, "student": 2e9}

_IN_A_NAME = re.compile(r"(?<![\d.a-z])(\d+(?:\.\d+)?)([bm])(?![a-z\d])", re.IGNORECASE)


def rate_of(engine: str, precision: str, parameters: float) -> Rate:
    """The rate of a model of `parameters` weights; between two known sizes, on the line between their logarithms.

    `engine` is `transformers`, or a server's `api`; `precision` `float32`, `bfloat16`, `float16`, `nf4` or `int8`. A
    pair that has no figures is taken for the engine's in bfloat16.
    """
    engine = _LIKE_ENGINE.get(engine, engine)
    precision = _LIKE_PRECISION.get(precision, precision)
    points = POINTS.get((engine, precision)) or POINTS[engine, "bfloat16"]
    words = f"{size_in_words(parameters)}, {precision}, {engine}"
    below = [one for one in points if one.parameters <= parameters]
    above = [one for one in points if one.parameters >= parameters]
    if not below:
        # The step of a small model takes as long as it takes to be launched, whatever the model's size.
        return Rate(above[0].prompts, above[0].replies, above[0].source, words)
    if not above:
        share = below[-1].parameters / parameters
        return Rate(below[-1].prompts * share, below[-1].replies * share, "estimated", words)
    low, high = below[-1], above[0]
    if low == high:
        return Rate(low.prompts, low.replies, low.source, words)
    way = math.log(parameters / low.parameters) / math.log(high.parameters / low.parameters)
    source: Source = low.source if low.source == high.source else "estimated"
    prompts, replies = (
        math.exp((1 - way) * math.log(one) + way * math.log(other))
        for one, other in ((low.prompts, high.prompts), (low.replies, high.replies))
    )
    return Rate(prompts, replies, source, words)


def engine_of(args: ArteArgs, role: str) -> str:
    """Who runs `role`, `teacher` or `student`: `transformers`, or what kind of server."""
    if getattr(args.engine, role, None) is None:
        return "transformers"
    return str(getattr(args.engine, "api", "transformers"))


def teacher_rate(name: str, parameters: float | None, cfg: Mapping[str, Any], args: ArteArgs, spread: int = 1) -> Rate:
    """Of the teacher as the YAML loads it; `spread` GPUs share a training that is sharded.

    They share the teacher's layers as well where one of them can't hold them all.
    """
    engine = engine_of(args, "teacher")
    precision, packed = machine.writing_dtype(cfg), machine.packing(cfg)
    if engine == "transformers" and packed is not None:
        precision = "int8" if packed >= 1 else "nf4"
    size = _size(name, parameters, "teacher")
    rate = rate_of(engine, precision, size)
    if engine != "transformers":
        return rate
    bytes_ = size * (packed or shapes.SIZES[machine.writing_dtype(cfg)])
    gpus = max(machine.writes_on(bytes_, spread), math.ceil(bytes_ / machine.ROOM))
    if gpus == 1:
        return rate
    # Its layers lie one after the other on these GPUs, of which one works at a time.
    return Rate(rate.prompts / gpus, rate.replies / gpus, rate.source, f"{rate.of}, a share of {gpus} GPUs")


def student_rate(models: Sequence[tuple[str, float | None, str]], args: ArteArgs) -> Rate:
    """Of students who are asked as much as one another; each a name, its parameters if known, and its precision."""
    engine = engine_of(args, "student")
    rates = [rate_of(engine, precision, _size(name, known, "student")) for name, known, precision in models]
    if len(rates) == 1:
        return rates[0]
    # Each has its share of the tokens, so times are added.
    prompts, replies = (
        len(rates) / sum(1 / one for one in some)
        for some in ((one.prompts for one in rates), (one.replies for one in rates))
    )
    source: Source = rates[0].source if len({one.source for one in rates}) == 1 else "estimated"
    return Rate(prompts, replies, source, "; ".join(dict.fromkeys(one.of for one in rates)))


def size_in_words(parameters: float) -> str:
    """`8B`, `1.7B`, `135M`."""
    unit, name, digits = (1e9, "B", 2) if parameters >= 0.95e9 else (1e6, "M", 3)
    return f"{float(f'{parameters / unit:.{digits}g}'):g}{name}"


def size_by_name(name: str) -> float | None:
    """What a model's name says of its size (`Llama-3.1-8B-Instruct`): the first such number; None for nothing."""
    found = _IN_A_NAME.search(name.rsplit("/", 1)[-1])
    return float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6) if found else None


def _size(name: str, known: float | None, role: str) -> float:
    return known or size_by_name(name) or UNKNOWN[role]
