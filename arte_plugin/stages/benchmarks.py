"""Beside stage 8: students on standard benchmarks, as lm-evaluation-harness defines them (paper, Table 3).

Nothing of ARTE comes in: prompts, examples, stop strings and metrics are lm-eval's, and no chat template is applied, as
in the tables of papers. What has been asked is kept; a benchmark whose data can't be had is skipped and tried again by
the next run, so this is no stage of the manifest.
"""

import difflib
import functools
import json
import logging
import math
import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from arte_plugin import versions
from arte_plugin.config.evaluate import EvaluateArgs
from arte_plugin.errors import ConfigError
from arte_plugin.models.student import student_dtype
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import wilson, write_text
from arte_plugin.run.manifest import hash_of
from arte_plugin.show.progress import progress_line
from arte_plugin.show.tables import Lines, markdown_table
from arte_plugin.stages.student_lm import Advance, Candidate, attention, loaded_student, quiet

LOG = logging.getLogger(LOGGER)

FILE = "benchmarks.json"
TABLE = "benchmarks.md"

#: Of what is kept. Until 1, lm-eval's own model answered, whose logarithms and sums had the student's precision.
FORMAT = 2

#: Who has something to say while lm-eval works.
_LOUD = ("lm_eval", "datasets", "huggingface_hub")


@dataclass(frozen=True)
class BenchmarkResult:
    """One student on one task of lm-eval."""

    #: The name in the YAML, and the task of lm-eval: a group or tag stands for several.
    benchmark: str
    task: str
    #: The student's label: its arm, with its name and seed where there are several.
    arm: str
    #: Examples in the prompt: lm-eval's own number.
    shots: int
    #: The task's main metric, and the filter that it was read through (`none` where the task has only one reading).
    metric: str
    filter: str
    higher_is_better: bool
    #: Questions.
    n: int
    value: float
    #: Whether the value is a share of the questions, in 0..1; if not, its unit is the metric's.
    share: bool
    #: lm-eval's standard error, and a 95 % interval: Wilson's for a share. None where lm-eval gives none.
    stderr: float | None
    low: float | None
    high: float | None
    #: lm-eval's version of the task.
    version: str
    #: Everything that lm-eval measured, by `METRIC,FILTER`.
    metrics: dict[str, float]


@dataclass(frozen=True)
class Skipped:
    """A benchmark that could not be asked."""

    benchmark: str
    reason: str


@dataclass(frozen=True)
class Benchmarks:
    """What `benchmarks.json` holds."""

    #: How the students were asked: lm-eval's version, limit, no chat template.
    settings: dict[str, Any]
    results: list[BenchmarkResult]
    skipped: list[Skipped]


def check_names(names: Sequence[str]) -> None:
    """Raise `ConfigError` for a name that the installed lm-eval does not know."""
    if not names:
        return
    known = _manager().all_tasks
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or [task for task in known if name in task][:3]
            raise ConfigError(
                f"arte.evaluate.benchmarks: lm-eval {metadata.version('lm_eval')} has no task or group {name!r}"
                f"{f'; did you mean {_listed(near)}?' if near else '.'} `lm_eval ls tasks` lists them all."
            )


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
        tasks, skipped = _load(missing, folder)
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


def read_benchmarks(folder: Path) -> Benchmarks | None:
    """What the last run left in stage 8's folder, if it asked benchmarks."""
    file = folder / FILE
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    return Benchmarks(
        content["settings"],
        [BenchmarkResult(**row) for row in content["results"]],
        [Skipped(**row) for row in content["skipped"]],
    )


def main_metric(names: Sequence[str], higher_is_better: Mapping[str, bool | None]) -> str:
    """The one of a task's `METRIC,FILTER` that stands in the table.

    Accuracy normalised by the answers' length where lm-eval measures it, else the first in the task's own order; both
    through the task's first filter. Metrics of which less is better come last.
    """
    good = [name for name in names if higher_is_better.get(name.partition(",")[0]) is not False] or list(names)
    return next((name for name in good if name.startswith("acc_norm,")), good[0])


def benchmark_lines(results: Sequence[BenchmarkResult]) -> Lines:
    """The table: a line for each benchmark and arm, and the average where there are several benchmarks.

    A group of tasks counts as one benchmark, by the mean of its tasks.
    """
    lines: Lines = [["benchmark", "shots", "arm", "metric", "n", "value", "95 % interval"]]
    by_name: dict[str, dict[str, list[BenchmarkResult]]] = {}
    for row in results:
        by_name.setdefault(row.benchmark, {}).setdefault(row.arm, []).append(row)
    arms = list(dict.fromkeys(row.arm for row in results))
    means: dict[str, list[_Mean]] = {arm: [] for arm in arms}
    for name, of_arm in by_name.items():
        for arm, rows in of_arm.items():
            mean = _of(rows)
            lines.append([name, _one(rows, "shots"), arm, _metric(rows), *_numbers(mean)])
            # The average is over the same benchmarks for every arm.
            if mean.share and len(of_arm) == len(arms):
                means[arm].append(mean)
    for arm in arms:
        if len(means[arm]) > 1:
            lines.append(["(average)", "", arm, "", *_numbers(_mean(means[arm]))])
    return lines


def notes(made: Benchmarks) -> list[str]:
    """What has to be said below the table: how it was asked, and what was skipped."""
    settings = made.settings
    how = f"lm-eval {settings['lm_eval']} in its standard form, no chat template"
    limit = f"; the first {settings['limit']} questions of each task" if settings["limit"] else ""
    return [f"benchmarks: {how}{limit}", *(f"{one.benchmark} skipped: {one.reason}" for one in made.skipped)]


# --- Asking -------------------------------------------------------------------------------------------------------


@functools.cache
def _manager() -> Any:
    """lm-eval's index of its tasks: some seconds to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _load(names: Sequence[str], folder: Path) -> tuple[dict[str, dict[str, Any]], list[Skipped]]:
    """lm-eval's tasks by name in the YAML, with their data; and the names whose data can't be had."""
    from lm_eval.tasks import get_task_dict

    tasks: dict[str, dict[str, Any]] = {}
    skipped: list[Skipped] = []
    for name in names:
        LOG.info("benchmark %s: loading its data", name)
        try:
            with (folder / "lm_eval.log").open("a", encoding="utf-8") as log, quiet(*_LOUD, output=log):
                tasks[name] = dict(_leaves(get_task_dict([name], _manager())))
        except Exception as error:
            if not _no_data(error):
                raise
            message = " ".join(str(error).split())
            fetch = f"from lm_eval.tasks import TaskManager; TaskManager().load_task_or_group('{name}')"
            reason = (
                f"its data is not in the cache here and did not come from the Hub ({type(error).__name__}: {message}). "
                f'Fetch it once, where there is a network, by `python -c "{fetch}"`; the next run tries again.'
            )
            LOG.warning("benchmark %s skipped: %s", name, reason)
            skipped.append(Skipped(name, reason))
    return tasks, skipped


def _leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, member in tree.items():
        if isinstance(member, Mapping):
            yield from _leaves(member)
        else:
            yield name, member


def _no_data(error: Exception) -> bool:
    """Whether this is what loading a data set comes to without a network, a cache or access; nothing else is.

    Without a network `huggingface_hub` raises whatever its HTTP client does, a RuntimeError even, so the place tells.
    """
    frames = traceback.walk_tb(error.__traceback__)
    modules = {frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in frames}
    return "datasets" in modules and (
        isinstance(error, (ConnectionError, TimeoutError, FileNotFoundError))
        or "huggingface_hub" in modules
        or str(error).startswith("Couldn't find cache for ")
    )


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
                    quiet(*_LOUD, output=log),
                ):
                    lm.set_cache_hook(Advance(lm.line))
                    _prepare(task)
                    # Errors of means need no bootstrap, and for others lm-eval's own 100,000 draws take minutes.
                    found = evaluator.evaluate(lm, {task_name: task}, limit=limit, bootstrap_iters=1000)
                row, samples = _result(name, task_name, label, found)
                _write_samples(folder / "benchmark_samples" / label / f"{task_name}.jsonl", samples, row.metric)
                rows.append(row)
            shown, interval = _numbers(_of(rows))[1:]
            LOG.info("benchmark %s, %s: %s %s (%s)", name, label, _metric(rows), shown, interval or "no interval")
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


# --- The table's cells --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mean:
    value: float
    low: float | None
    high: float | None
    n: int
    share: bool


def _mean(parts: Sequence[_Mean]) -> _Mean:
    """The mean of independent estimates, whose intervals add up in squares."""
    value, n = sum(part.value for part in parts) / len(parts), sum(part.n for part in parts)
    below = [part.value - part.low for part in parts if part.low is not None]
    above = [part.high - part.value for part in parts if part.high is not None]
    low = high = None
    if len(below) == len(above) == len(parts):
        low, high = value - math.hypot(*below) / len(parts), value + math.hypot(*above) / len(parts)
    return _Mean(value, low, high, n, all(part.share for part in parts))


def _of(rows: Sequence[BenchmarkResult]) -> _Mean:
    """A benchmark as one figure: the mean of its tasks."""
    return _mean([_Mean(row.value, row.low, row.high, row.n, row.share) for row in rows])


def _numbers(mean: _Mean) -> list[str]:
    scale, form, unit = (100, ".1f", " %") if mean.share else (1, ".3f", "")
    interval = ""
    if mean.low is not None and mean.high is not None:
        interval = f"{scale * mean.low:{form}} to {scale * mean.high:{form}}"
    return [str(mean.n), f"{scale * mean.value:{form}}{unit}", interval]


def _metric(rows: Sequence[BenchmarkResult]) -> str:
    metric, reading = _one(rows, "metric"), _one(rows, "filter")
    shown = metric if reading == "none" else f"{metric} ({reading})"
    return shown if all(row.higher_is_better for row in rows) else f"{shown}, less is better"


def _one(rows: Sequence[BenchmarkResult], field: str) -> str:
    """What the tasks of a benchmark have in common."""
    found = {str(getattr(row, field)) for row in rows}
    return found.pop() if len(found) == 1 else "several"


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
