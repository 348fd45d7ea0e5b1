"""Seconds a probe: written answers, and likelihoods with and without rationale, side by side on one machine.

python benchmarks/fewer_calls/speed.py [--drafts N]       writes speed.json; needs the run of collect.yaml

Of each task some drafts, on the whole preference set, each way in turn draft by draft, with nothing cached. Written
answers also in batches of 8 and 4, the sizes that racing asks for.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from arte_plugin.args import ProbeArgs
from arte_plugin.models import Model
from arte_plugin.request_cache import RequestCache
from arte_plugin.rows import Draft, PreferenceQuestion
from arte_plugin.stages.likelihood import weigh
from arte_plugin.stages.probe import probe
from arte_plugin.tasks import Task
from collect_matrix import CONFIG, Collected

SPEED = CONFIG.with_name("speed.json")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drafts", type=int, default=6)
    wanted = parser.parse_args().drafts
    run = Collected()
    student = run.student(RequestCache(run.out.path / "requests.sqlite"))
    student.engine()
    seconds: dict[str, dict[str, float]] = {}
    for task in run.tasks:
        drafts, questions = run.of(task)
        of_task: dict[str, list[float]] = {}
        # One draft of a question, and one more in front that warms everything up and does not count.
        for number, draft in enumerate(drafts[:: max(1, len(drafts) // wanted)][: wanted + 1]):
            for way, spent in _each_way(student, run.args.probe, task, draft, questions):
                if number:
                    of_task.setdefault(way, []).append(spent / len(questions))
        seconds[task.name] = {way: round(sum(some) / len(some), 4) for way, some in of_task.items()}
    report = {
        "seconds_a_probe": seconds,
        "drafts": wanted,
        "preference_questions": run.args.preference_set.size,
        "max_new_tokens": run.args.probe.max_new_tokens,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}",
        "student": "SmolLM2-135M-Instruct, float32",
    }
    SPEED.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _each_way(
    student: Model, settings: ProbeArgs, task: Task, draft: Draft, questions: Sequence[PreferenceQuestion]
) -> Iterator[tuple[str, float]]:
    for way in (
        "answers",
        "answers, 8 at a time",
        "answers, 4 at a time",
        "likelihood",
        "likelihood_without_rationale",
    ):
        score, _, size = way.partition(", ")
        settings = ProbeArgs(**{**settings.model_dump(), "score": score})
        with tempfile.TemporaryDirectory() as folder:
            student.cache = RequestCache(Path(folder) / "empty.sqlite")
            student.batch_size = int(size.split()[0]) if size else settings.batch_size
            started = time.monotonic()
            if score == "answers":
                probe(task, [draft], questions, student, settings)
            else:
                weigh(task, [draft], questions, student, settings)
            yield way, time.monotonic() - started


if __name__ == "__main__":
    main()
