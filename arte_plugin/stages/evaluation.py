"""Stage 8: students on the test questions, by lm-evaluation-harness (paper, section 4).

`lm_eval_files` writes ordinary lm-eval tasks, one for each task and number of shots, which `lm_eval --include_path`
runs just as well. `evaluate` runs them, with prompts rendered for the student as it was probed and trained.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from arte_plugin import versions
from arte_plugin.config.evaluate import EvaluateArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.endings import reply_end
from arte_plugin.errors import DataError
from arte_plugin.language import prompts
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.student import student_dtype
from arte_plugin.models.student_replies import ANSWER_TOKENS, StudentReply
from arte_plugin.rows import Result, split_lines, wilson, write_text
from arte_plugin.run.manifest import hash_of
from arte_plugin.show.progress import progress_line
from arte_plugin.stages.compare import Evaluated
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.lm_eval_files import (
    TASKS_FOLDER,
    ending,
    judge_response,
    question_rows,
    task_name,
    write_tasks,
)
from arte_plugin.stages.student_lm import Candidate, answered, attention, loaded_student, quiet


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
    return all(reply_end(ending(row), reply) is not None for row, reply in closed)


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
