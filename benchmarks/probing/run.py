"""Time several ways of answering the same probes on this machine: `python -m benchmarks.probing.run` (`make bench`).

Every turn runs each contender once, in a process of its own, in another order each turn. `results.json` and `table.md`
in `--out` say what came of it; docs/performance.md says what is measured, and how to read it.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import httpx

from benchmarks.probing import table
from benchmarks.probing.outside import installed
from benchmarks.probing.work import FIXED_TOKENS, Work, make_work, read_task, spread

ROOT = Path(__file__).parents[2]
QUESTIONS = ROOT / "yaml_examples" / "data" / "boolean_expressions.jsonl"
#: Contenders in this order; a reply is compared with that of the first one that was asked the same prompt.
TITLES = {
    "naive": "`generate`, one by one",
    "batched": "`generate`, padded batches",
    "generate_batch": "`generate_batch` of transformers",
    "engine": "arte_plugin's engine",
    **{name: one.title for name, one in installed.OUTSIDE.items()},
}


def _list(context: click.Context, option: click.Parameter, value: str) -> list[str]:
    return [one.strip() for one in value.split(",") if one.strip()]


@click.command(help=__doc__)
@click.option("--model", default="models/student", show_default=True, help="The student: a folder, or a Hub name.")
@click.option("--questions", default=str(QUESTIONS), help="A task of BBH as JSON, or JSONL. [default: our own]")
@click.option("--prefixes", default="128,512,2048", show_default=True, callback=_list, help="Tokens of the prefix.")
@click.option("--siblings", default=40, show_default=True, help="Probes with one prefix.")
@click.option("--naive-siblings", default=40, show_default=True, help="How many of them are asked one by one.")
@click.option("--batched-siblings", default=40, show_default=True, help="How many others than our engine are asked.")
@click.option("--lengths", default="real,fixed", show_default=True, callback=_list, help="Of the replies.")
@click.option("--turns", default=3, show_default=True, help="How often every contender runs.")
@click.option(
    "--contenders",
    default=",".join(name for name in TITLES if name not in installed.OUTSIDE),
    show_default=True,
    callback=_list,
    help=f"Who runs here; {' and '.join(installed.OUTSIDE)} too, once `make` has installed them.",
)
@click.option("--openvino-python", default=".venv-openvino/bin/python", show_default=True, help="Of its environment.")
@click.option("--vllm-python", default=".venv-vllm/bin/python", show_default=True, help="Of its environment.")
@click.option("--batch-size", default=16, show_default=True, help="Prompts in a padded batch.")
@click.option("--threads", default=None, type=int, help="Threads of a CPU. [default: torch's own]")
@click.option("--dtype", default=None, help="[default: bfloat16 on CUDA, else float32]")
@click.option("--server", "servers", multiple=True, help="http://HOST:PORT/v1 of a server that runs already.")
@click.option("--server-model", default=None, help="Name that the servers know the model by. [default: --model]")
@click.option("--server-api", default="openai", show_default=True, help="vllm, sglang, transformers or openai.")
@click.option("--out", default="outputs/bench", show_default=True, help="Folder for results.json and table.md.")
@click.option(
    "--add",
    type=click.Path(exists=True, dir_okay=False),
    help="A results.json of this machine to go on from, with other works or more turns.",
)
def main(
    model: str,
    questions: str,
    prefixes: list[str],
    siblings: int,
    naive_siblings: int,
    batched_siblings: int,
    lengths: list[str],
    turns: int,
    contenders: list[str],
    openvino_python: str,
    vllm_python: str,
    batch_size: int,
    threads: int | None,
    dtype: str | None,
    servers: Sequence[str],
    server_model: str | None,
    server_api: str,
    out: str,
    add: str | None,
) -> None:
    """Run the benchmark that the options say, and write what came of it."""
    import torch

    from benchmarks.probing.worker import load_renderer

    for given, known in ((contenders, TITLES), (lengths, ("real", "fixed"))):
        if unknown := [name for name in given if name not in known]:
            raise click.UsageError(f"there is no {unknown[0]!r}; choose from {', '.join(known)}")
    for url in servers:
        check_server(url)
    cuda = torch.cuda.is_available()
    device, dtype = "cuda:0" if cuda else "cpu", dtype or ("bfloat16" if cuda else "float32")
    pythons = {"openvino": openvino_python, "vllm": vllm_python}
    pythons = {name: python for name, python in pythons.items() if name in contenders}
    found_versions: dict[str, str] = {}
    for name, python in pythons.items():
        installed.refuse(name, device, dtype)
        found_versions |= installed.versions(name, python)
    served = {f"server-{number}": url for number, url in enumerate(servers, 1)}
    task, renderer = read_task(Path(questions).expanduser()), load_renderer(model)
    titles = {name: title for name, title in TITLES.items() if name in contenders}
    settings = {
        # The last part is enough to know it by, and says nothing about anybody's disk.
        "model": Path(model).name if Path(model).is_dir() else model,
        "task": task.name,
        "contenders": titles | {name: f"server at {url} ({server_api})" for name, url in served.items()},
        "siblings": siblings,
        "turns": turns,
        "batch_size": batch_size,
        "threads": threads or torch.get_num_threads(),
        "dtype": dtype,
        "device": device,
        "fixed_tokens": FIXED_TOKENS,
    }
    results: dict[str, Any] = {"machine": describe_machine(found_versions), "settings": settings, "parameters": 0}
    results |= {"ceilings": [], "turns": []}
    before = json.loads(Path(add).read_text(encoding="utf-8")) if add else None
    if before and before["settings"] | {"turns": turns} != settings:
        raise click.UsageError(
            f"{add} comes from other settings: only prefixes, lengths, turns and --…-siblings may differ"
        )
    wanted = [(int(prefix), length) for prefix in prefixes for length in lengths]
    first = turns_of(before, [f"{prefix}/{length}" for prefix, length in wanted]) if before else 0
    settings["turns"] += first
    outside: dict[str, Any] = {"ends": installed.end_tokens(model, renderer.tokenizer)} if pythons else {}
    if "openvino" in pythons:
        click.echo(f"{TITLES['openvino']}: its form of the model", err=True)
        kept = Path(out) / "openvino"
        outside["exported"], results["export_seconds"] = installed.exported(openvino_python, model, kept)
    for turn in range(first, first + turns):
        # Other prompts for each work and turn: nobody has their prefix in a cache, a server least of all.
        todo = [
            make_work(task, renderer, prefix, length, siblings, turn * len(wanted) + number)
            for number, (prefix, length) in enumerate(wanted)
        ]
        warm_ups = [
            make_work(task, renderer, work.wanted if cuda else min(wanted)[0], work.length, siblings, 99)
            for work in todo
        ]
        results["ceilings"].append(run_worker({**settings, "contender": "ceilings"}))
        replies = {}
        names = list(settings["contenders"])
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            click.echo(f"turn {turn + 1} of {first + turns}: {settings['contenders'][name]}", err=True)
            # Others than these make use of every sibling that there is.
            fewer = {"naive": naive_siblings, "batched": batched_siblings, "generate_batch": batched_siblings}
            places = spread(siblings, fewer.get(name, siblings))
            warm_rows = settings["batch_size"] if cuda else 1
            # Some compile a kernel when its shape first comes. That is not for the timed part: those that take all
            # prompts at once get as many before, once for each of `lengths`.
            at_once = siblings if name == "engine" or name in pythons else warm_rows
            spec = {
                **settings,
                "model": model,
                "contender": name,
                "python": pythons.get(name),
                "server": {"url": served[name], "api": server_api, "model": server_model or model}
                if name in served
                else None,
                "jobs": [
                    {
                        "work": asdict(work),
                        "max_new_tokens": work.max_new_tokens,
                        "stop": work.stop,
                        "places": places,
                        "warm_up": warm_up.prompts[: at_once if number < len(lengths) else warm_rows],
                    }
                    for number, (work, warm_up) in enumerate(zip(todo, warm_ups, strict=True))
                ],
                **({**outside, "longest": installed.longest([*todo, *warm_ups])} if name in pythons else {}),
            }
            try:
                found = run_worker(spec)
            except WorkerError as error:
                results["turns"] += [
                    {"turn": turn, "contender": name, "work": work.name, "error": str(error),
                     "prefix_tokens": work.prefix_tokens} for work in todo
                ]  # fmt: skip
                click.echo(f"  failed: {error}", err=True)
                continue
            for work, one in zip(todo, found, strict=True):
                replies[name, work.name] = dict(zip(places, [reply["text"] for reply in one["outputs"]], strict=True))
                shape = one.pop("shape", None)
                results["parameters"] = shape["body"] + shape["head"] if shape else results["parameters"]
                results["turns"].append({"turn": turn, "contender": name, **record(work, places, one)})
                click.echo(f"  {work.name}: {len(places)} probes in {one['seconds']:.1f} s", err=True)
        for row in results["turns"]:
            if row["turn"] == turn and not row.get("error"):
                row |= compare(replies, row["contender"], row["work"], names)
                if row["contender"] in pythons:
                    found = compare(replies, row["contender"], row["work"], ["engine", row["contender"]])
                    row |= {"equal_to_engine": found["equal"], "compared_with_engine": found["compared"]}
        # After every turn: on a few cores a turn takes the better part of an hour, and a run may not see its last.
        write(Path(out), results, before)
    click.echo((Path(out) / "table.md").read_text(encoding="utf-8"))


def turns_of(results: Mapping[str, Any], works: Sequence[str]) -> int:
    """How many turns there have been of any of `works`."""
    return max((row["turn"] + 1 for row in results["turns"] if row["work"] in works), default=0)


def check_server(url: str) -> None:
    """Raise `click.UsageError` when no server answers at `url`: its turn comes after all others, maybe hours later."""
    try:
        httpx.get(f"{url.rstrip('/')}/models", timeout=30)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise click.UsageError(f"no server answers at {url} ({error}); start it first") from error


def write(folder: Path, results: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """Write `results.json` and `table.md`, with the results `before` in front."""
    both = {**results, **{key: before[key] + results[key] for key in ("ceilings", "turns")}} if before else results
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(both, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table.page(both), encoding="utf-8")


def record(work: Work, places: Sequence[int], found: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a contender's turn at one work: figures, and not a word of the questions or the replies."""
    outputs = found["outputs"]
    asked = [work.prompt_tokens[place] for place in places]
    new = [reply["new_tokens"] for reply in outputs]
    texts = "\0".join(reply["text"] for reply in outputs)
    return {
        **{key: value for key, value in found.items() if key != "outputs"},
        "probes": len(places),
        "prefix_tokens": work.prefix_tokens,
        "prompt_tokens": sum(asked),
        # With the prefix computed once, and nothing else twice.
        "needed_tokens": sum(asked) - work.prefix_tokens * (len(asked) - 1),
        "new_tokens": sum(new),
        "extra_tokens": sum(reply["extra_tokens"] for reply in outputs),
        "length_kept": work.length == "real" or set(new) == {work.max_new_tokens},
        "replies_hash": hashlib.sha256(texts.encode()).hexdigest()[:16],
    }


def compare(
    replies: Mapping[tuple[str, str], Mapping[int, str]], contender: str, work: str, order: Sequence[str]
) -> dict[str, int]:
    """How many of a contender's replies are equal to those of the first in `order` that was asked the same.

    One that is itself the first has nothing to be compared with.
    """
    others = [name for name in order[: order.index(contender)] if (name, work) in replies]
    pairs = []
    for place, text in replies[contender, work].items():
        if (first := next((name for name in others if place in replies[name, work]), None)) is not None:
            pairs.append(text == replies[first, work][place])
    return {"equal": sum(pairs), "compared": len(pairs)}


class WorkerError(Exception):
    """A contender that did not get through; what it said last."""


def run_worker(spec: Mapping[str, Any]) -> Any:
    """What a new process makes of `spec`. Raises `WorkerError` with its last words where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        given, made, log = (Path(folder) / name for name in ("spec.json", "made.json", "log"))
        given.write_text(json.dumps(spec), encoding="utf-8")
        if python := spec.get("python"):
            command = [python, "-m", installed.OUTSIDE[spec["contender"]].module]
            environment = installed.environment()
        else:
            command = [sys.executable, "-m", "benchmarks.probing.worker"]
            paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": paths}
        with log.open("wb") as stream:
            done = subprocess.run([*command, given, made], env=environment, stdout=stream, stderr=stream)
        if done.returncode:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise WorkerError(lines[-1] if lines and done.returncode > 0 else f"ended with {done.returncode}")
        return json.loads(made.read_text(encoding="utf-8"))


def describe_machine(more: Mapping[str, str]) -> dict[str, Any]:
    """What it runs on, with `more` versions than those of this environment."""
    import torch

    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = named[0].split(":", 1)[1].strip() if named else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "arte-plugin")},
            **more,
        },
    }


if __name__ == "__main__":
    main()
