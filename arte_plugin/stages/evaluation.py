"""Stage 8: students on the test questions, by lm-evaluation-harness (paper, section 4).

`write_tasks` writes ordinary lm-eval tasks, one for each task and number of shots, which `lm_eval --include_path` runs
just as well. `evaluate` runs them, with prompts rendered for the student as it was probed and trained.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from arte_plugin import versions
from arte_plugin.config.evaluate import EvaluateArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Request
from arte_plugin.engines.endings import cut, reply_end
from arte_plugin.errors import DataError
from arte_plugin.language import prompts
from arte_plugin.language.answers import judge
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.student import student_dtype
from arte_plugin.models.student_replies import ANSWER_TOKENS, StudentReply
from arte_plugin.rows import Result, split_lines, wilson, write_text
from arte_plugin.run.manifest import hash_of
from arte_plugin.show.progress import progress_line
from arte_plugin.stages.compare import Evaluated
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.student_lm import Candidate, answered, attention, loaded_student, quiet

TASKS_FOLDER = "lm_eval_tasks"

#: What the `!function` entries of the task files stand for: lm-eval looks for them beside the YAML only.
_UTILS = '''\
"""Written by arte_plugin: the functions that the tasks in this folder name."""

from pathlib import Path

from arte_plugin.stages.evaluation import judge_response, read_questions


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
    _, outcome = judge(cut(_ending(doc), results[0]), doc["target"], doc["answer_type"])
    return {"accuracy": float(outcome == "correct"), "unparsed": float(outcome == "unparsed")}


def evaluate(
    tasks: Sequence[Task],
    students: Sequence[Candidate],
    evaluation: EvaluateArgs,
    cfg: Mapping[str, Any],
    folder: Path,
    known: Sequence[Path] = (),
    ask_again: bool = False,
    memory: float | None = None,
) -> list[Evaluated]:
    """Every student on every task at every number of shots; arms that share a student share its answers.

    With `ask_again`, a reply without an answer is asked for it, as in the probes.
    Replies to the same questions, asked in the same way, are taken from `folder/results` or from the folders `known`,
    and read anew: all students by one reader, whenever they were asked. Prompts and replies are in `folder/samples`.
    `memory` is for the keys and values of what is in flight, in bytes; None leaves that to the engine.
    Raises `DataError` when a prompt and the longest answer do not fit into the student's context.
    """
    write_tasks(tasks, evaluation, folder)
    wanted = {task_name(task, shots): (task, shots) for task in tasks for shots in evaluation.shots}
    questions = {name: question_rows(*key)[: evaluation.limit] for name, key in wanted.items()}
    elsewhere: dict[str, dict[str, Any]] = {}
    for path in (path for place in known for path in sorted(place.rglob("*.json"))):
        elsewhere |= json.loads(path.read_text(encoding="utf-8"))
    evaluated: list[Evaluated] = []
    of_student: dict[tuple[str, TrainedStudent], list[Evaluated]] = {}
    for candidate in students:
        student, trained = candidate.student, candidate.trained
        as_labelled: dict[str, Any] = {"arm": candidate.arm, "student": student.name, "seed": candidate.seed}
        if (same := of_student.get((student.name, trained))) is not None:
            evaluated += [Evaluated(replace(one.result, **as_labelled), one.right) for one in same]
            continue
        settings = {
            **dict(zip(("model", "adapter"), [*trained.fingerprints(), None], strict=False)),
            "prompt_style": student.prompt_style,
            **({"template_kwargs": student.chat_template_kwargs} if student.chat_template_kwargs else {}),
            **({"date": candidate.date} if candidate.date else {}),
            "dtype": student_dtype(student),
            "attention": attention(student, cfg),
            "max_new_tokens": evaluation.max_new_tokens,
            **({"ask_again": True} if ask_again else {}),
            "lm_eval": metadata.version("lm_eval"),
            "engine": versions.engine("transformers"),
            "rendering": versions.RENDERING,
            "format": 4,
        }
        keys = {name: hash_of({**settings, "name": name, "questions": questions[name]}) for name in wanted}
        file = folder / "results" / f"{candidate.label}.json"
        done = {**elsewhere, **(json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {})}
        missing = [name for name in wanted if not _are_there(done.get(keys[name]), questions[name], ask_again)]
        if missing:
            total = sum(len(questions[name]) for name in missing)
            with (
                progress_line(f"evaluate {candidate.label}", total) as line,
                _lm(candidate, evaluation.batch_size, ask_again, cfg, line, memory) as lm,
            ):
                samples = _run(lm, {name: questions[name] for name in missing}, evaluation, ask_again, folder)
            for name in missing:
                _write_samples(folder / "samples" / candidate.label / f"{name}.jsonl", samples[name], lm.replies)
                replies = {sample["doc"]["question_id"]: sample["resps"][0][0] for sample in samples[name]}
                done[keys[name]] = {"reading": versions.READING, "replies": replies}
            file.parent.mkdir(parents=True, exist_ok=True)
            # With what was not there or was not to be used.
            own = {key: value for key, value in done.items() if value is not elsewhere.get(key)}
            write_text(file, json.dumps(own, indent=2, ensure_ascii=False) + "\n")
        of_student[student.name, trained] = read = []
        for name, (task, shots) in wanted.items():
            replies = done[keys[name]]["replies"]
            judged = {row["question_id"]: judge_response(row, [replies[row["question_id"]]]) for row in questions[name]}
            right = {question: bool(metrics["accuracy"]) for question, metrics in judged.items()}
            read.append(Evaluated(_result(task, candidate, shots, list(judged.values())), right))
            _judge_samples(folder / "samples" / candidate.label / f"{name}.jsonl", judged)
        evaluated += read
    return evaluated


def _are_there(kept: Mapping[str, Any] | None, rows: Sequence[Mapping[str, str]], ask_again: bool) -> bool:
    """Whether replies to all questions are kept, and would have ended where they did by today's reader, too."""
    if kept is None or not all(row["question_id"] in kept["replies"] for row in rows):
        return False
    if kept["reading"] == versions.READING or ask_again:
        # Whom to ask again, each reader sees otherwise.
        return kept["reading"] == versions.READING
    # One that an earlier reader saw end in an answer, and that has none for this one, would have gone on.
    closed = (
        (row, reply) for row in rows if (reply := kept["replies"][row["question_id"]]).endswith(prompts.ANSWER_END)
    )
    return all(reply_end(_ending(row), reply) is not None for row, reply in closed)


def _ending(row: Mapping[str, Any]) -> Request:
    """A request as far as it says where its reply ends."""
    return Request("", "", 0, 0.0, 0, prompts.RATIONALE_STOP, row["answer_type"])


@contextlib.contextmanager
def _lm(
    candidate: Candidate, batch_size: int | None, ask_again: bool, cfg: Mapping[str, Any], line: Any,
    memory: float | None,
) -> Iterator[Any]:  # fmt: skip
    """The student as an lm-eval model; its memory is given back at the end."""
    from lm_eval.models.huggingface import HFLM

    from arte_plugin.engines.transformers import TransformersEngine

    class StudentLM(HFLM):
        """lm-eval's own model, asked as in the probes: the same prompts, the same engine, the same end of a reply."""

        renderer: Renderer
        #: By prompt.
        replies: dict[str, StudentReply]

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return self.renderer.prompt(chat_history[-1]["content"])

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            replies = answered(engine, requests, batch_size, ask_again, line)
            self.replies |= {request.args[0]: reply for request, reply in zip(requests, replies, strict=True)}
            return [reply.text for reply in replies]

    with loaded_student(candidate, cfg, plain_greedy=True) as (model, tokenizer):
        with quiet("lm_eval"):
            lm = StudentLM(pretrained=model, tokenizer=tokenizer, backend="causal", add_bos_token=False)
        lm.renderer, lm.replies = candidate.renderer(tokenizer), {}
        engine = TransformersEngine(model, tokenizer, memory, ends=lm.renderer.end_ids)
        try:
            yield lm
        finally:
            engine.close()


def _run(
    lm: Any, questions: Mapping[str, Sequence[Mapping[str, str]]], settings: EvaluateArgs, ask_again: bool, folder: Path
) -> dict[str, Any]:
    """lm-eval's samples by task. Whatever it has to say meanwhile goes into a file."""
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager, get_task_dict

    more = len(lm.tok_encode(prompts.ANSWER_PREFILL, add_special_tokens=False)) + ANSWER_TOKENS if ask_again else 0
    for name, rows in questions.items():
        longest = max(len(lm.tok_encode(lm.renderer.prompt(row["prompt"]), add_special_tokens=False)) for row in rows)
        if longest + settings.max_new_tokens + more > lm.max_length:
            raise DataError(
                f"{name}: the longest prompt has {longest} tokens, and with `evaluate.max_new_tokens` of "
                f"{settings.max_new_tokens} it exceeds the student's context of {lm.max_length}. "
                "Lower `evaluate.shots` or `evaluate.max_new_tokens`."
            )
    with (folder / "lm_eval.log").open("a", encoding="utf-8") as log, quiet("lm_eval", output=log):
        manager = TaskManager(include_path=str(folder / TASKS_FOLDER), include_defaults=False)
        found = evaluator.evaluate(
            lm,
            get_task_dict(list(questions), manager),
            limit=settings.limit,
            bootstrap_iters=0,
            log_samples=True,
            # Through `StudentLM.apply_chat_template`, for plain students too.
            apply_chat_template=True,
        )
    return found["samples"]


def _result(task: Task, candidate: Candidate, shots: int, samples: Sequence[Mapping[str, Any]]) -> Result:
    n = len(samples)
    correct, unparsed = (int(sum(sample[metric] for sample in samples)) for metric in ("accuracy", "unparsed"))
    low, high = wilson(correct, n)
    return Result(
        task=task.name, category=task.args.category or "", arm=candidate.arm, student=candidate.student.name,
        seed=candidate.seed, shots=shots, n=n, correct=correct, unparsed=unparsed,
        accuracy=correct / n if n else 0.0, low=low, high=high,
    )  # fmt: skip


def _write_samples(path: Path, samples: Sequence[Mapping[str, Any]], replies: Mapping[str, StudentReply]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        prompt = sample["arguments"][0][0]
        reply = replies[prompt]
        row = {
            "question_id": sample["doc"]["question_id"],
            "prompt": prompt,
            "response": sample["resps"][0][0],
            "target": sample["target"],
            "outcome": _outcome(sample),
            "finish": reply.finish,
            "new_tokens": reply.new_tokens,
            "asked_again": reply.asked_again,
        }
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(path, "".join(rows))


def _judge_samples(path: Path, judged: Mapping[str, Mapping[str, float]]) -> None:
    """Write the outcomes of `judged`, by question, into samples of an earlier start."""
    if not path.is_file():
        return
    rows = [json.loads(line) for line in split_lines(path.read_text(encoding="utf-8")) if line]
    again = [{**row, "outcome": _outcome(judged[row["question_id"]])} for row in rows if row["question_id"] in judged]
    if again != rows:
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in again))


def _outcome(metrics: Mapping[str, float]) -> str:
    return "correct" if metrics["accuracy"] else "unparsed" if metrics["unparsed"] else "wrong"
