"""Stage 8 and a benchmark by our engine, against the same questions by lm-eval's own model of transformers.

    python -m benchmarks.evaluation.run --model models/student [--turns 3]

One after the other, in turns, in one process; both load the student anew each time, and lm-eval judges both. `demo` is
the evaluation of `yaml_examples/quickstart-cpu.yaml`, with 0 and 3 shots: there lm-eval's model has our prompts, and
goes on behind a closed answer, for it knows no end but stop strings. `choice` asks a benchmark's form of the same data:
five examples, a word, and six answers whose likelihoods are compared. Figures go to `results/`, one file a machine.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from benchmarks.probing.run import describe_machine

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results")
QUICKSTART = ROOT / "yaml_examples" / "quickstart-cpu.yaml"
WORDS = ROOT / "yaml_examples" / "data" / "kind_of_thing.jsonl"

#: Rows of lm-eval's padded batches.
PADDED = 16

#: Of the choice task.
EXAMPLES, QUESTIONS = 5, 40

_CHOICE_UTILS = """\
import json
from pathlib import Path

from datasets import Dataset, DatasetDict


def questions(**_):
    rows = [json.loads(line) for line in Path(__file__).with_name("rows.jsonl").read_text().splitlines()]
    return DatasetDict({split: Dataset.from_list([row for row in rows if row["split"] == split]) for split in
                        ("examples", "test")})
"""

_CHOICE = """\
task: kinds
custom_dataset: !function utils.questions
fewshot_split: examples
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{choices.index(answer)}}"
doc_to_choice: "{{choices}}"
num_fewshot: EXAMPLES
fewshot_config: {sampler: first_n}
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""

#: What a contender found: its answers by question, in a form that can be compared, and the metrics of each task.
Found = tuple[dict[str, Any], dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every contender `--turns` times on both works; show and keep the seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a student; models/student for the demo's")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--questions", type=int, help="so many of each task, at most")
    parser.add_argument("--out", type=Path, default=RESULTS / "machine.json")
    options = parser.parse_args(arguments)
    import torch

    works: dict[str, dict[str, Callable[[Path], Found]]] = {
        "demo": {"hflm": _demo(options, ours=False), "arte": _demo(options, ours=True)},
        "choice": {"hflm": _choice(options, ours=False), "arte": _choice(options, ours=True)},
    }
    made: dict[str, Any] = {
        "machine": describe_machine({"lm_eval": metadata.version("lm_eval")}),
        "settings": {
            "model": Path(options.model).name,
            "threads": torch.get_num_threads(),
            "lm_eval": metadata.version("lm_eval"),
            "padded": PADDED,
            "turns": options.turns,
        },
        "works": {},
    }
    for work, contenders in works.items():
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        processor: dict[str, list[float]] = {name: [] for name in contenders}
        found: dict[str, Found] = {}
        names = list(contenders)
        for turn in range(options.turns):
            for name in names[turn % 2 :] + names[: turn % 2]:
                with tempfile.TemporaryDirectory() as folder:
                    started, used = time.perf_counter(), time.process_time()
                    found[name] = contenders[name](Path(folder))
                    seconds[name].append(round(time.perf_counter() - started, 2))
                    processor[name].append(round(time.process_time() - used, 2))
                print(f"{work}, turn {turn + 1}, {name}: {seconds[name][-1]:.1f} s", flush=True)
        made["works"][work] = {
            "seconds": seconds,
            "ratio": _ratio(seconds),
            # Of all threads; on a machine that has other work, they tell more.
            "processor_seconds": processor,
            "processor_ratio": _ratio(processor),
            **_compared(found["hflm"], found["arte"]),
        }
        print(json.dumps(made["works"][work], indent=1), flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return 0


def _ratio(seconds: Mapping[str, Sequence[float]]) -> float:
    """How many times as long lm-eval's own model takes, by the medians."""
    return round(statistics.median(seconds["hflm"]) / statistics.median(seconds["arte"]), 2)


def _compared(theirs: Found, ours: Found) -> dict[str, Any]:
    answers, other = theirs[0], ours[0]
    if answers.keys() != other.keys():
        raise RuntimeError("the contenders were asked other questions")
    numbers = [
        (a, b) for key, one in answers.items() if isinstance(one, list) for a, b in zip(one, other[key], strict=True)
    ]
    return {
        "questions": len(answers),
        "metrics": {"hflm": theirs[1], "arte": ours[1]},
        **({"largest_difference": max(abs(a - b) for a, b in numbers)} if numbers else
           {"other_outcomes": sum(answers[key] != other[key] for key in answers)}),
    }  # fmt: skip


def _candidate(options: argparse.Namespace) -> Any:
    from arte_plugin.config.student import StudentArgs
    from arte_plugin.stages.fine_tuning import TrainedStudent
    from arte_plugin.stages.student_lm import Candidate

    settings = StudentArgs(base_model=options.model, dtype="float32", attn_implementation="sdpa")
    return Candidate("base", "base", settings, TrainedStudent(options.model))


def _demo(options: argparse.Namespace, ours: bool) -> Callable[[Path], Found]:
    from arte_plugin.config.arte import ArteArgs
    from arte_plugin.data.tasks import load_tasks
    from arte_plugin.stages import evaluation as evaluate
    from arte_plugin.stages import lm_eval_files
    from arte_plugin.stages.student_lm import loaded_student

    cfg = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    for one in cfg["arte"]["tasks"]:
        one["questions"]["path"] = str(ROOT / one["questions"]["path"])
    args = ArteArgs.model_validate(cfg["arte"])
    (task,) = load_tasks(args.tasks, cfg["seed"])
    settings = args.evaluate.model_copy(update={"limit": options.questions})

    def by_engine(folder: Path) -> Found:
        results = evaluate.evaluate([task], [_candidate(options)], settings, {}, folder)
        samples = {
            file.stem: file.read_text(encoding="utf-8").splitlines() for file in folder.rglob("samples/*/*.jsonl")
        }
        rows = {name: [json.loads(line) for line in lines] for name, lines in samples.items()}
        outcomes = {f"{name}/{row['question_id']}": row["outcome"] for name, of in rows.items() for row in of}
        return outcomes, {lm_eval_files.task_name(task, one.result.shots): one.result.accuracy for one in results}

    def by_hflm(folder: Path) -> Found:
        from lm_eval.models.huggingface import HFLM

        class Theirs(HFLM):
            """lm-eval's own model, given the prompts as the student is given them."""

            renderer: Any

            def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
                return self.renderer.prompt(chat_history[-1]["content"])

        candidate = _candidate(options)
        lm_eval_files.write_tasks([task], settings, folder)
        names = {lm_eval_files.task_name(task, shots): shots for shots in settings.shots}
        rows = {name: lm_eval_files.question_rows(task, shots)[: settings.limit] for name, shots in names.items()}
        with loaded_student(candidate, {}, plain_greedy=True) as (model, tokenizer):
            lm = Theirs(pretrained=model, tokenizer=tokenizer, batch_size=PADDED, add_bos_token=False)
            lm.renderer = candidate.renderer(tokenizer)
            samples = evaluate._run(lm, rows, settings, False, folder)
        outcomes = {
            f"{name}/{one['doc']['question_id']}": evaluate._outcome(one) for name, of in samples.items() for one in of
        }
        return outcomes, {name: statistics.mean(one["accuracy"] for one in of) for name, of in samples.items()}

    return by_engine if ours else by_hflm


def _choice(options: argparse.Namespace, ours: bool) -> Callable[[Path], Found]:
    from arte_plugin.stages.student_lm import loaded_student

    def ask(folder: Path) -> Found:
        from lm_eval import evaluator
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager, get_task_dict

        from arte_plugin.engines.transformers import TransformersEngine
        from arte_plugin.stages.engine_lm import EngineLM

        _write_choice(folder, min(QUESTIONS, options.questions or QUESTIONS))
        tasks = get_task_dict(["kinds"], TaskManager(include_path=str(folder), include_defaults=False))
        with loaded_student(_candidate(options), {}, plain_greedy=False) as (model, tokenizer):
            if ours:
                lm: Any = EngineLM(model, tokenizer, TransformersEngine(model, tokenizer))
                lm.line = SimpleNamespace(reset=lambda total: None)
            else:
                lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=PADDED)
            found = evaluator.evaluate(lm, tasks, bootstrap_iters=0)
        return _likelihoods(found)

    return ask


def _likelihoods(found: Mapping[str, Any]) -> Found:
    answers = {
        str(sample["doc_id"]): [float(likelihood) for ((likelihood, _),) in sample["resps"]]
        for sample in found["samples"]["kinds"]
    }
    results = found["results"]["kinds"]
    return answers, {name: float(results[f"{name},none"]) for name in ("acc", "acc_norm")}


def _write_choice(folder: Path, questions: int) -> None:
    rows = [json.loads(line) for line in WORDS.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        # Of several tokens, as most benchmarks' answers are.
        row["answer"] = f"It is {'an' if row['answer'][0] in 'aeiou' else 'a'} {row['answer']}."
    kinds = sorted({row["answer"] for row in rows})
    some = [
        {**row, "choices": kinds, "split": "examples" if number < EXAMPLES else "test"}
        for number, row in enumerate(rows[: EXAMPLES + questions])
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    (folder / "utils.py").write_text(_CHOICE_UTILS, encoding="utf-8")
    (folder / "kinds.yaml").write_text(_CHOICE.replace("EXAMPLES", str(EXAMPLES)), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
