"""How much memory many probe rows take: written, read, and made by stage 3. See README.md.

    python benchmarks/rows/measure.py [--rows 10000 100000 1000000] [--to measured.json]

Every figure comes from a process of its own, which does one thing with one number of rows.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
QUESTIONS = 40
#: What responses are made of, about as long as real ones of small models.
WORDS = ("True", "False", "and", "or", "not", "is", "the value of", "so we have", "that", "therefore", "first", "part")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything, or, called by itself, one thing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--to", type=Path, default=HERE / "measured.json")
    parser.add_argument("--one", choices=WORK, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(_one(options.one, options.rows[0])))
        return 0
    measured = []
    for what in WORK:
        for rows in options.rows:
            command = [sys.executable, __file__, "--one", what, "--rows", str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            measured.append(json.loads(done.stdout))
            print(measured[-1], flush=True)
    options.to.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def _one(what: str, rows: int) -> dict[str, Any]:
    # Imports are not what is measured.
    import arte_plugin.loop.loop  # noqa: F401

    before = _peak()
    with tempfile.TemporaryDirectory() as folder:
        found = WORK[what](Path(folder), rows)
    peak = {"MiB before": before, "peak MiB": _peak()}
    return {"what": what, "rows": rows, **peak, **found}


def _peak() -> float:
    # Linux: in KiB.
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _write_and_read(folder: Path, rows: int) -> dict[str, Any]:
    """Rows made on the way are written and read back."""
    from arte_plugin.rows import Probe, iter_rows, write_rows

    replies = _replies()

    def probes() -> Iterator[Probe]:
        for i in range(rows):
            draft, question = divmod(i, QUESTIONS)
            yield Probe(
                f"{draft:012x}-step_by_step", f"{question:012x}", "task", "./models/student",
                replies[i % len(replies)], "True", "correct",
            )  # fmt: skip

    file = folder / "probes.jsonl"
    writing = _seconds(lambda: write_rows(file, probes()))
    read = 0

    def reading() -> None:
        nonlocal read
        for _ in iter_rows(file, Probe):
            read += 1

    took = _seconds(reading)
    assert read == rows
    return {"seconds writing": writing, "seconds reading": took, "bytes a row": round(file.stat().st_size / rows, 1)}


def _stage(folder: Path, rows: int) -> dict[str, Any]:
    """Stage 3 of one task with an engine that answers at once, and once more from the request cache."""
    from arte_plugin.config.probe import ProbeArgs
    from arte_plugin.config.tasks import TaskArgs
    from arte_plugin.data.tasks import Task
    from arte_plugin.models.model import Model
    from arte_plugin.models.request_cache import RequestCache
    from arte_plugin.rows import Draft, PreferenceQuestion, write_rows
    from arte_plugin.run.manifest import hash_file
    from arte_plugin.stages.probing import Tally, probe

    args = TaskArgs.model_validate(
        {"name": "task", "description": "Work it out.", "questions": {"path": "unread.jsonl"}, "answer": "boolean"}
    )
    task, replies = Task(args, [], [], [], 0), _replies()
    drafts = [
        Draft(
            draft_id=f"{i:012x}-step_by_step",
            task="task",
            question_id=f"{i:012x}",
            question=f"What is {i}?",
            target="True",
            technique="step_by_step",
            rationale=f"{i}: {replies[i % len(replies)] * 3}",
            answer="True",
            question_prompt=f"{i}: {replies[-i % len(replies)] * 5}",
            solve_prompt=f"Work it out. Question: {i}",
        )
        for i in range(rows // QUESTIONS)
    ]
    chosen = [PreferenceQuestion(f"{i:012x}", "task", f"Is {i} even?", "True", None, None) for i in range(QUESTIONS)]
    file, cache_file = folder / "probes.jsonl", folder / "requests.sqlite"

    def run() -> int:
        cache, tally = RequestCache(cache_file), Tally()
        engine: Any = _AtOnce(replies)
        renderer: Any = _Plain()
        student = Model("./models/student", {"model": "0" * 64}, renderer, lambda: engine, cache, 40, 60.0)
        write_rows(file, tally.counted(probe(task, drafts, chosen, student, ProbeArgs())))
        write_rows(folder / "scores.jsonl", tally.scores(drafts))
        cache.close()
        assert tally.readings.n == rows
        return student.usage.asked

    drafted = _peak()
    seconds = _seconds(lambda: _is(run(), rows))
    first, written = _peak(), hash_file(file)
    again = _seconds(lambda: _is(run(), 0))
    assert written == hash_file(file)
    return {
        "MiB with drafts": drafted,
        "peak MiB asking": first,
        "seconds asking": seconds,
        "seconds from the cache": again,
        "bytes a row": round(file.stat().st_size / rows, 1),
        "bytes in the cache": round(cache_file.stat().st_size / rows, 1),
    }


class _Plain:
    """A base model's prompt: the text itself."""

    style = "plain"

    def prompt(self, text: str) -> str:
        return text


class _AtOnce:
    """Answers at once."""

    def __init__(self, replies: Sequence[str]):
        self._replies = replies

    def generate(self, batch: Sequence[Any], keep: Any = None) -> list[Any]:
        from arte_plugin.engines.base import Completion

        return [
            Completion(self._replies[sum(one.prompt.encode()) % len(self._replies)], "stop", 200, 40) for one in batch
        ]

    def report(self) -> str:
        return ""


def _replies() -> list[str]:
    rng = random.Random(0)
    return [f"{' '.join(rng.choices(WORDS, k=22))} <ans>{rng.choice(['True', 'False'])}</ans>" for _ in range(499)]


def _seconds(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return round(time.monotonic() - started, 1)


def _is(found: int, expected: int) -> None:
    assert found == expected, (found, expected)


WORK: dict[str, Callable[[Path, int], dict[str, Any]]] = {"write and read": _write_and_read, "stage 3": _stage}

if __name__ == "__main__":
    sys.exit(main())
