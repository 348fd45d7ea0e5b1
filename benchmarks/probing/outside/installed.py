"""The contenders that have environments of their own: whether they are there, which they are, and how they start."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from arte_plugin.models.identity import fingerprint_model
from benchmarks.probing.work import Work

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Outside:
    """One of them."""

    title: str
    #: What runs there.
    module: str
    #: Distributions whose versions are told.
    distributions: tuple[str, ...]


OUTSIDE = {
    "openvino": Outside(
        "OpenVINO GenAI", "benchmarks.probing.outside.with_openvino", ("openvino-genai", "optimum-intel")
    ),
    "vllm": Outside("vLLM", "benchmarks.probing.outside.with_vllm", ("vllm",)),
}

_VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


def versions(name: str, python: str) -> dict[str, str]:
    """Versions of a contender's distributions. Raises `click.UsageError` where its environment or one of them lacks."""
    one = OUTSIDE[name]
    get = f"`make {name}` installs it in an environment of its own, and --{name}-python names another one's Python"
    if not Path(python).is_file():
        raise click.UsageError(f"{one.title} isn't installed: there is no {python}; {get}")
    done = subprocess.run([python, "-c", _VERSIONS, *one.distributions], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise click.UsageError(f"{python} has no {one.title} ({said}); {get}")
    return json.loads(done.stdout)


def refuse(name: str, device: str, dtype: str) -> None:
    """Raise `click.UsageError` where a contender can't be compared in this precision, or on this device."""
    if name == "openvino" and (device != "cpu" or dtype != "float32"):
        raise click.UsageError(f"{OUTSIDE[name].title} is compared on CPUs in float32, not on {device} in {dtype}")


def environment() -> dict[str, str]:
    """What its process gets: this project's folder for the benchmark's own modules, and nobody else's packages."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def exported(python: str, model: str, kept: Path) -> tuple[str, float]:
    """OpenVINO's form of `model`, in float32, in a folder below `kept`, and the seconds that it took to write it.

    It is written once for a model and a version, 0 seconds later on. Raises `click.ClickException` with its last words
    where that fails.
    """
    made_by = "-".join(versions("openvino", python).values())
    folder = kept / f"{fingerprint_model(model).split('@')[-1][:16]}-{made_by}"
    if folder.is_dir():
        return str(folder), 0.0
    kept.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    # Where it is interrupted, it leaves some of its files.
    with tempfile.TemporaryDirectory(dir=kept) as unfinished:
        program = Path(python).absolute().parent / "optimum-cli"
        asked = ["--model", model, "--task", "text-generation-with-past", "--weight-format", "fp32"]
        done = subprocess.run(
            [program, "export", "openvino", *asked, f"{unfinished}/made"],
            env=environment(),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            raise click.ClickException(f"OpenVINO can't export {model}: {said}")
        Path(unfinished, "made").rename(folder)
    return str(folder), time.perf_counter() - started


def end_tokens(model: str, tokenizer: Any) -> list[int]:
    """Tokens that end a reply where it ends by itself: the checkpoint's, and the tokeniser's."""
    from transformers import AutoConfig, GenerationConfig

    try:
        config = GenerationConfig.from_pretrained(model)
    except OSError:
        config = GenerationConfig.from_model_config(AutoConfig.from_pretrained(model))
    ends = config.eos_token_id
    given = ends if isinstance(ends, list) else [ends]
    return sorted({one for one in (*given, tokenizer.eos_token_id) if one is not None})


def longest(works: Sequence[Work]) -> int:
    """Tokens of the longest prompt with its reply, rounded up to whole blocks of a cache."""
    most = max(max(work.prompt_tokens) + work.max_new_tokens for work in works)
    return -(-most // 128) * 128
