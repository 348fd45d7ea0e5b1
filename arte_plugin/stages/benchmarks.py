"""Beside stage 8: students on standard benchmarks, as lm-evaluation-harness defines them (paper, Table 3).

Nothing of ARTE comes in: prompts, examples, stop strings and metrics are lm-eval's, and no chat template is applied, as
in the tables of papers. What has been asked is kept; a benchmark whose data can't be had is skipped and tried again by
the next run, so this is no stage of the manifest.
"""

import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from arte_plugin import versions
from arte_plugin.config.evaluate import EvaluateArgs
from arte_plugin.models.student import student_dtype
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import wilson, write_text
from arte_plugin.run.manifest import hash_of
from arte_plugin.show.benchmark_table import as_one, benchmark_lines, named_metric, notes, numbers
from arte_plugin.show.progress import progress_line
from arte_plugin.show.tables import markdown_table
from arte_plugin.stages.benchmark_results import FILE, TABLE, BenchmarkResult, Benchmarks, Skipped
from arte_plugin.stages.benchmark_tasks import LOUD, load_tasks
from arte_plugin.stages.student_lm import Advance, Candidate, attention, loaded_student, quiet

LOG = logging.getLogger(LOGGER)

#: Of what is kept. Until 1, lm-eval's own model answered, whose logarithms and sums had the student's precision.
FORMAT = 2


def run_benchmarks(
    students: Sequence[Candidate], evaluation: EvaluateArgs, cfg: Mapping[str, Any], folder: Path,
    memory: float | None = None,
) -> Benchmarks:  # fmt: skip
    """Every student on every benchmark of the YAML; writes `benchmarks.json`, `benchmarks.md` and the samples.

    `memory` is for the keys and values of what is in flight, in bytes; None leaves that to the engine.
    What was asked before of the same student in the same way is read from `folder/benchmark_results.json`.
    """
    names, limit = evaluation.benchmarks, evaluation.benchmark_limit
    asking = {"lm_eval": metadata.version("lm_eval"), "chat_template": False, "limit": limit}
    if not names:
        _forget(folder)
        return Benchmarks(asking, [], [])
    store = folder / "benchmark_results.json"
    done: dict[str, list[dict[str, Any]]] = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    keys = {
        (one.label, name): hash_of({**asking, **_identity(one, cfg), "benchmark": name, "format": FORMAT})
        for one in students
        for name in names
    }
    missing = [name for name in names if any(keys[one.label, name] not in done for one in students)]
    skipped: list[Skipped] = []
    if missing:
        # The tables of an earlier run may be of other students.
        _forget(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tasks, skipped = load_tasks(missing, folder)
        for one in students:
            # Arms that share a student share its results.
            wanted = [name for name in tasks if keys[one.label, name] not in done]
            for name, rows in _ask(one, {name: tasks[name] for name in wanted}, evaluation, cfg, folder, memory):
                done[keys[one.label, name]] = [asdict(row) for row in rows]
                write_text(store, json.dumps(done, indent=2) + "\n")
    results = [
        replace(BenchmarkResult(**row), arm=label, benchmark=name)
        for (label, name), key in keys.items()
        for row in done.get(key, [])
    ]
    made = Benchmarks(asking, results, skipped)
    write_text(folder / FILE, json.dumps(asdict(made), indent=2) + "\n")
    table = markdown_table(benchmark_lines(results)) + "\n\n" if results else ""
    write_text(folder / TABLE, table + "\n".join(f"- {line}" for line in notes(made)) + "\n")
    return made


def main_metric(names: Sequence[str], higher_is_better: Mapping[str, bool | None]) -> str:
    """The one of a task's `METRIC,FILTER` that stands in the table.

    Accuracy normalised by the answers' length where lm-eval measures it, else the first in the task's own order; both
    through the task's first filter. Metrics of which less is better come last.
    """
    good = [name for name in names if higher_is_better.get(name.partition(",")[0]) is not False] or list(names)
    return next((name for name in good if name.startswith("acc_norm,")), good[0])


def _ask(
    candidate: Candidate, tasks: Mapping[str, Mapping[str, Any]], evaluation: EvaluateArgs, cfg: Mapping[str, Any],
    folder: Path, memory: float | None,
) -> Iterator[tuple[str, list[BenchmarkResult]]]:  # fmt: skip
    """The student's results, one benchmark after the other; nothing is loaded where there is nothing to ask."""
    if not tasks:
        return
    from lm_eval import evaluator

    from arte_plugin.engines.transformers import TransformersEngine
    from arte_plugin.stages.engine_lm import EngineLM

    label, limit = candidate.label, evaluation.benchmark_limit
    with loaded_student(candidate, cfg, plain_greedy=False) as (model, tokenizer):
        engine = TransformersEngine(model, tokenizer, memory)
        with quiet("lm_eval"):
            lm = EngineLM(model, tokenizer, engine, evaluation.batch_size)
        for name, members in tasks.items():
            rows = []
            for task_name, task in members.items():
                with (
                    progress_line(f"{task_name} {label}", total=1) as lm.line,
                    (folder / "lm_eval.log").open("a", encoding="utf-8") as log,
                    quiet(*LOUD, output=log),
                ):
                    lm.set_cache_hook(Advance(lm.line))
                    _prepare(task)
                    # Errors of means need no bootstrap, and for others lm-eval's own 100,000 draws take minutes.
                    found = evaluator.evaluate(lm, {task_name: task}, limit=limit, bootstrap_iters=1000)
                row, samples = _result(name, task_name, label, found)
                _write_samples(folder / "benchmark_samples" / label / f"{task_name}.jsonl", samples, row.metric)
                rows.append(row)
            shown, interval = numbers(as_one(rows))[1:]
            LOG.info("benchmark %s, %s: %s %s (%s)", name, label, named_metric(rows), shown, interval or "no interval")
            yield name, rows


def _prepare(task: Any) -> None:
    """What lm-eval's own command does to a task before it runs it: no examples where none are named, and its seeds."""
    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(1234)
    torch.manual_seed(1234)
    if task.get_config("num_fewshot") is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(1234)


def _result(benchmark: str, task: str, arm: str, found: Mapping[str, Any]) -> tuple[BenchmarkResult, list[Any]]:
    """The result of a task, and the samples that its main metric was measured on."""
    measured = {
        name: value
        for name, value in found["results"][task].items()
        if "," in name and "_stderr," not in name and isinstance(value, (int, float))
    }
    higher_is_better = found["higher_is_better"][task]
    main = main_metric(list(measured), higher_is_better)
    metric, _, reading = main.partition(",")
    samples = [sample for sample in found["samples"][task] if sample["filter"] == reading]
    values = [sample[metric] for sample in samples]
    share = all(value in (0, 1) for value in values)
    value, n = float(measured[main]), len(values)
    error = found["results"][task].get(f"{metric}_stderr,{reading}")
    stderr = float(error) if isinstance(error, (int, float)) else None
    low: float | None = None
    high: float | None = None
    if share:
        low, high = wilson(round(sum(values)), n)
    elif stderr is not None:
        low, high = value - 1.96 * stderr, value + 1.96 * stderr
    row = BenchmarkResult(
        benchmark=benchmark, task=task, arm=arm, shots=int(found["n-shot"][task]), metric=metric, filter=reading,
        higher_is_better=higher_is_better.get(metric) is not False, n=n, value=value, share=share, stderr=stderr,
        low=low, high=high, version=str(found["versions"][task]), metrics=measured,
    )  # fmt: skip
    return row, samples


def _write_samples(path: Path, samples: Sequence[Mapping[str, Any]], metric: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        prompt, *_ = sample["arguments"][0]
        row = {
            "question": sample["doc_id"],
            "prompt": prompt,
            # What was asked of the prompt: how to generate, or whose likelihood.
            "asked": [asked for _, *asked in sample["arguments"]],
            "said": sample["resps"],
            "read": sample["filtered_resps"],
            "target": sample["target"],
            metric: sample[metric],
        }
        rows.append(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    write_text(path, "".join(rows))


def _identity(candidate: Candidate, cfg: Mapping[str, Any]) -> dict[str, Any]:
    trained, student = candidate.trained, candidate.student
    return {
        **dict(zip(("model", "adapter"), [*trained.fingerprints(), None], strict=False)),
        "dtype": student_dtype(student),
        "attention": attention(student, cfg),
        "engine": versions.engine("transformers"),
    }


def _forget(folder: Path) -> None:
    """Take the tables away; what was asked stays where it is kept."""
    for name in (FILE, TABLE):
        (folder / name).unlink(missing_ok=True)
