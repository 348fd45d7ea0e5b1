"""The ten minutes on a GPU, rehearsed to the end without one, and without what a bare machine lacks."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu_probe
from benchmarks.gpu_probe import CUT, ITEMS, Log, Probe, run

ROOT = Path(__file__).parents[2]

#: What a GPU machine without a package index lacks, beside Axolotl.
LACKS = ("axolotl", "trl", "bitsandbytes", "pydantic", "kernels", "flash_attn", "lm_eval", "datasets")
BARE = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({LACKS!r}))
sys.argv = ["gpu_probe", *sys.argv[1:]]
runpy.run_module("benchmarks.gpu_probe", run_name="__main__")
"""


def probe(tmp_path: Path, *options: str, program: str = BARE) -> tuple[int, list[dict], str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, "--out", str(tmp_path), *options], capture_output=True, text=True, cwd=ROOT,
        env=environment,
    )  # fmt: skip
    file = tmp_path / "gpu_probe.jsonl"
    return done.returncode, list(map(json.loads, file.read_text().splitlines())) if file.is_file() else [], done.stderr


def test_a_rehearsal_comes_to_its_end_with_a_figure_for_everything(tmp_path):
    code, rows, said = probe(tmp_path, "--rehearse", "--seconds", "3000")
    assert rows[-1]["end"] == "done", (rows[-1], said[-2000:])
    assert code == 0
    items = {name: [row for row in rows if row.get("item") == name] for name in ITEMS}
    assert {name: found[-1]["end"] for name, found in items.items()} == dict.fromkeys(ITEMS, "done")
    assert all(row["right"] for row in rows if "right" in row)
    assert len(items["kernel"]) == 16 + 1
    # Only what the machine lacks has no figure.
    errors = [row["error"] for row in rows if "error" in row]
    assert all("bitsandbytes" in error for error in errors), errors
    for name in ("equal", "student", "teacher", "evaluation"):
        used = {row["way"]: row["used"] for row in items[name] if "used" in row}
        assert used["varlen"]["varlen"] and not used["plain"]["varlen"] and used["plain"]["shared"]
    assert all(row["first_wrong"] is None and row["same_twice"] for row in items["equal"] if "way" in row)
    changed = {row["weights"]: row["share_changed"] for row in items["precision"] if "weights" in row}
    assert changed["bfloat16 weights"] < changed["bfloat16 weights, Kahan"] < changed["float32 weights, autocast"]
    assert {row["prefixes"] for row in items["student"] if "profiled_steps" in row} == {"one family", "all families"}


#: An item that nothing but the end of the process ends.
HANGS = """
import signal, sys, time
from benchmarks import gpu_probe

def hang(_):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    yield {"begun": True}
    while True:
        time.sleep(1)

gpu_probe.ITEMS, gpu_probe.GRACE = {"hang": (1000, hang)}, 0.0
gpu_probe.main(["--rehearse", "--seconds", "1", *sys.argv[1:]])
"""


def test_the_clock_ends_it_whatever_it_does(tmp_path):
    code, rows, _ = probe(tmp_path, program=HANGS)
    assert code == CUT
    assert rows[1]["begun"] is True
    assert rows[-1]["end"] == "the clock has run out"


def test_without_a_gpu_it_says_so(tmp_path):
    code, rows, said = probe(tmp_path, "--only", "machine")
    assert (code, rows) == (2, [])
    assert "PyTorch finds no CUDA device here; --rehearse goes without one" in said


def test_an_item_that_fails_or_hangs_costs_only_itself(tmp_path, monkeypatch):
    def good(_: Probe):
        yield {"figure": 1}

    def bad(_: Probe):
        yield {"figure": 2}
        raise RuntimeError("no such kernel")

    def endless(_: Probe):
        yield {"figure": 3}
        while True:
            time.sleep(0.01)

    items = {"bad": (60, bad), "endless": (0.2, endless), "good": (60, good), "late": (0, good)}
    log = Log(tmp_path / "log")
    assert run(Probe("cpu", gpu_probe.SMALL, None), items, log, 600) == ["bad", "endless", "late"]
    rows = list(map(json.loads, (tmp_path / "log").read_text().splitlines()))
    assert [row["figure"] for row in rows if "figure" in row] == [2, 3, 1]
    ends = {row["item"]: row["end"] for row in rows if "end" in row}
    assert ends["bad"] == "failed: RuntimeError: no such kernel"
    assert (ends["endless"], ends["good"]) == ("cut off after its 0 s", "done")
    assert ends["late"] == "not begun: no time was left"
    assert any("no such kernel" in row.get("traceback", "") for row in rows)


def test_what_it_asks_fits_into_its_ten_minutes():
    assert sum(budget for budget, _ in ITEMS.values()) <= 540 - gpu_probe.GRACE
    assert all(item.__doc__ for _, item in ITEMS.values())


@pytest.mark.parametrize("causal", [False, True])
def test_what_the_kernel_is_held_against_is_attention(causal):
    import torch

    query, key, value = (torch.randn(9, heads, 16) for heads in (4, 2, 2))
    output, total = gpu_probe.attend(query, key, value, [0, 9], [0], [9], causal, None)
    wide = [one.repeat_interleave(2, 1).transpose(0, 1) for one in (key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(query.transpose(0, 1), *wide, is_causal=causal)
    torch.testing.assert_close(output, expected.transpose(0, 1))
    scores = query.transpose(0, 1) @ wide[0].transpose(1, 2) / 4
    if causal:
        scores = scores.masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(total, scores.logsumexp(-1))
