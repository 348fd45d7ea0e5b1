"""The test questions as ordinary tasks of lm-evaluation-harness, and how their responses are judged."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from arte_plugin.config.evaluate import EvaluateArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Request
from arte_plugin.engines.endings import cut
from arte_plugin.errors import DataError
from arte_plugin.language import prompts
from arte_plugin.language.answers import judge
from arte_plugin.rows import split_lines, write_text

TASKS_FOLDER = "lm_eval_tasks"

#: What the `!function` entries of the task files stand for: lm-eval looks for them beside the YAML only.
_UTILS = '''\
"""Written by arte_plugin: the functions that the tasks in this folder name."""

from pathlib import Path

from arte_plugin.stages.lm_eval_files import judge_response, read_questions


def questions(file, **_):
    return read_questions(Path(__file__).with_name(file))


def judge(doc, results):
    return judge_response(doc, results)
'''


def write_tasks(tasks: Sequence[Task], settings: EvaluateArgs, folder: Path) -> None:
    """Write `folder/lm_eval_tasks`: the test questions (JSONL) and an lm-eval task (YAML) for each task × shots.

    Raises `DataError` when a task has fewer seed questions than shots.
    """
    target = folder / TASKS_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / "utils.py", _UTILS)
    for task in tasks:
        for shots in settings.shots:
            name = task_name(task, shots)
            rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in question_rows(task, shots))
            write_text(target / f"{name}.jsonl", rows)
            definition = {
                "task": name,
                "dataset_kwargs": {"file": f"{name}.jsonl"},
                "test_split": "test",
                "output_type": "generate_until",
                "doc_to_text": "prompt",
                "doc_to_target": "target",
                # The examples are in the prompt already.
                "num_fewshot": 0,
                # Where an answer ends a reply, `judge_response` cuts it.
                "generation_kwargs": {
                    "until": list(prompts.RATIONALE_STOP),
                    "do_sample": False,
                    "max_gen_toks": settings.max_new_tokens,
                },
                "metric_list": [
                    {"metric": "accuracy", "aggregation": "mean", "higher_is_better": True},
                    {"metric": "unparsed", "aggregation": "mean", "higher_is_better": False},
                ],
                "metadata": {"version": 1.0},
            }
            functions = "custom_dataset: !function utils.questions\nprocess_results: !function utils.judge\n"
            text = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True) + functions
            write_text(target / f"{name}.yaml", text)


def task_name(task: Task, shots: int) -> str:
    """The name of a task at a number of shots in lm-eval, and of its files."""
    return f"arte_{task.name}_{shots}shot"


def question_rows(task: Task, shots: int) -> list[dict[str, str]]:
    """The rows that lm-eval reads: one for each test question, the first `shots` seed questions shown in its prompt."""
    if shots > len(task.seeds):
        raise DataError(
            f"Task {task.name}: evaluation at {shots} shots needs {shots} seed questions, there are {len(task.seeds)}. "
            "Raise `seed_questions` or lower `evaluate.shots`."
        )
    examples = [(q.question, q.rationale or prompts.bare_rationale(q.target)) for q in task.seeds[:shots]]
    description, kind = task.args.description, task.args.answer
    return [
        {
            "question_id": question.question_id,
            "prompt": prompts.solve_prompt(description, kind, question.question, examples),
            "target": question.target,
            "answer_type": kind,
        }
        for question in task.test
    ]


def read_questions(path: Path) -> Any:
    """The data set of one task file, for lm-eval; in memory, so that no cache and no guess at column types comes in."""
    from datasets import Dataset, DatasetDict

    rows = [json.loads(line) for line in split_lines(path.read_text(encoding="utf-8")) if line]
    return DatasetDict({"test": Dataset.from_list(rows)})


def judge_response(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's `process_results`: whether the response is correct, and whether it could be parsed at all."""
    _, outcome = judge(cut(ending(doc), results[0]), doc["target"], doc["answer_type"])
    return {"accuracy": float(outcome == "correct"), "unparsed": float(outcome == "unparsed")}


def ending(row: Mapping[str, Any]) -> Request:
    """A request as far as it says where its reply ends."""
    return Request("", "", 0, 0.0, 0, prompts.RATIONALE_STOP, row["answer_type"])
