"""Seconds a probe: written answers, and likelihoods with and without rationale, side by side on one machine.

python benchmarks/fewer_calls/speed.py [--drafts N]       writes speed.json; needs the run of collect.yaml

Some drafts of each task, of different questions, on the whole preference set: one way after the other, with nothing
cached. Written answers all at once, and in rounds as racing asks for them if it asks for all: a batch of `first`
questions, then `step` more at a time. One more draft in front warms everything up and does not count. Seconds by the
clock, and of processor time, all cores together: other work on the machine lengthens the first only.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from arte_plugin.config.probe import ProbeArgs, RacingArgs
from arte_plugin.data.tasks import Task
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Draft, PreferenceQuestion
from arte_plugin.stages.likelihood import weigh
from arte_plugin.stages.probing import probe
from collect_matrix import CONFIG, Collected

SPEED = CONFIG.with_name("speed.json")
WAYS = ("answers", "answers in rounds", "likelihood", "likelihood_without_rationale")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drafts", type=int, default=4)
    wanted = parser.parse_args().drafts
    run = Collected()
    student = run.student(RequestCache(run.out.path / "requests.sqlite"))
    clock: dict[str, dict[str, float]] = {}
    processor: dict[str, dict[str, float]] = {}
    for task in run.tasks:
        drafts, questions = run.of(task)
        warm, *measured = drafts[:: len(drafts) // (wanted + 1)][: wanted + 1]
        clock[task.name], processor[task.name] = {}, {}
        for way in WAYS:
            _spent(student, run.args.probe, way, task, [warm], questions[:8])
            spent = _spent(student, run.args.probe, way, task, measured, questions)
            for kind, seconds in zip((clock, processor), spent, strict=True):
                kind[task.name][way] = round(seconds / (len(measured) * len(questions)), 4)
    report = {
        "seconds_a_probe": clock,
        "processor_seconds_a_probe": processor,
        "drafts": wanted,
        "preference_questions": run.args.preference_set.size,
        "max_new_tokens": run.args.probe.max_new_tokens,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}",
        "student": f"SmolLM2-135M-Instruct, {run.args.students[0].dtype}",
    }
    SPEED.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _spent(
    student: Model,
    settings: ProbeArgs,
    way: str,
    task: Task,
    drafts: Sequence[Draft],
    questions: Sequence[PreferenceQuestion],
) -> tuple[float, float]:
    racing = RacingArgs()
    sizes = [len(questions)]
    if way == "answers in rounds":
        sizes = [racing.first, *[racing.step] * len(questions)]
    with tempfile.TemporaryDirectory() as folder:
        student.cache = RequestCache(Path(folder) / "empty.sqlite")
        started, worked, asked = time.monotonic(), time.process_time(), 0
        for size in sizes:
            some = questions[asked : asked + size]
            asked += size
            if way.startswith("answers"):
                list(probe(task, drafts, some, student, settings))
            else:
                weigh(task, drafts, some, student, ProbeArgs(**{**settings.model_dump(), "score": way}))
            if asked >= len(questions):
                break
        spent = time.monotonic() - started, time.process_time() - worked
        student.cache.close()
    return spent


if __name__ == "__main__":
    main()
