"""Tasks with their questions: reading them, drawing the splits, and making sure that no two splits overlap."""

import csv
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arte_plugin import answers
from arte_plugin.args import QuestionsArgs, TaskArgs
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.rows import Question, content_id, split_lines

LOCAL_FORMATS = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Task:
    """A task and its disjoint splits."""

    args: TaskArgs
    seeds: list[Question]
    validation: list[Question]
    test: list[Question]
    #: Questions that stood in a source more than once, left out.
    duplicates: int

    @property
    def name(self) -> str:
        """The task's name in every file and table."""
        return self.args.name

    def splits(self) -> dict[str, list[Question]]:
        """The three splits by name."""
        return {"seed": self.seeds, "validation": self.validation, "test": self.test}


def load_task(args: TaskArgs, seed: int) -> Task:
    """Read a task's questions and draw its splits, the same for the same `seed`.

    Raises `ConfigError` for a source that is not there or lacks a column, `DataError` for too few questions, a target
    that is no answer of the task's kind, and for splits that overlap.
    """
    drawn, duplicates = ([], 0) if args.questions is None else _read(args, args.questions)
    random.Random(f"{seed}/{args.name}/splits").shuffle(drawn)

    wanted = {
        "seed_questions": args.seed_questions,
        "validation_questions": args.validation_questions,
        "test_questions": args.test_questions,
    }
    numbers = {key: value for key, value in wanted.items() if isinstance(value, int)}
    if sum(numbers.values()) > len(drawn):
        asked = " + ".join(f"{value} {key}" for key, value in numbers.items())
        raise DataError(
            f"Task {args.name}: {asked} = {sum(numbers.values())} questions wanted, but {_source(args)} has "
            f"{len(drawn)}{f' (without {duplicates} duplicates)' if duplicates else ''}. Ask for fewer, or give more."
        )

    splits: dict[str, list[Question]] = {}
    taken = 0
    for key in ("seed_questions", "validation_questions"):
        value = wanted[key]
        if isinstance(value, QuestionsArgs):
            splits[key], again = _read(args, value)
            duplicates += again
        else:
            splits[key] = drawn[taken : taken + numbers[key]]
            taken += numbers[key]
    # Taken from the other end, so that the test set stays the same when the other splits grow.
    test = wanted["test_questions"]
    if isinstance(test, QuestionsArgs):
        splits["test_questions"], again = _read(args, test)
        duplicates += again
    else:
        count = len(drawn) - taken if test is None else numbers["test_questions"]
        splits["test_questions"] = drawn[len(drawn) - count :]

    for key, questions in splits.items():
        if not questions:
            raise DataError(f"Task {args.name}: `{key}` is empty. Give it at least one question.")
    _refuse_overlap(args.name, splits)
    return Task(args, splits["seed_questions"], splits["validation_questions"], splits["test_questions"], duplicates)


def comparable(question: str) -> str:
    """The form in which two questions are compared: case and white space do not count."""
    return " ".join(question.casefold().split())


def _source(args: TaskArgs) -> str:
    return args.questions.path if args.questions else "`questions`"


def _refuse_overlap(task: str, splits: Mapping[str, Sequence[Question]]) -> None:
    seen: dict[str, str] = {}
    for key, questions in splits.items():
        for question in questions:
            text = comparable(question.question)
            if seen.setdefault(text, key) != key:
                raise DataError(
                    f"Task {task}: `{seen[text]}` and `{key}` overlap, so results would mean nothing. "
                    f"Both hold: {_short(question.question)!r}. Take it out of one of them."
                )


def _read(args: TaskArgs, source: QuestionsArgs) -> tuple[list[Question], int]:
    questions: dict[str, Question] = {}
    duplicates = 0
    for place, row in _rows(args.name, source):
        for column in filter(None, (source.question, source.answer, source.rationale)):
            if column not in row:
                raise ConfigError(
                    f"Task {args.name}: {place} has no column {column!r}. It has: {', '.join(map(str, row))}. "
                    "Name the right one in `questions: {question: …, answer: …}`."
                )
        text, target = str(row[source.question]).strip(), str(row[source.answer]).strip()
        if not text or answers.normalise(target, args.answer) is None:
            found = "the question is empty" if not text else f"{_short(target)!r} is no {args.answer} answer"
            raise DataError(f"Task {args.name}: {place}: {found}. Put the row or the task's `answer` type right.")
        key = comparable(text)
        if key in questions:
            duplicates += 1
            if not answers.same(questions[key].target, target, args.answer):
                raise DataError(
                    f"Task {args.name}: {place}: {_short(text)!r} stands there twice, with different answers."
                )
            continue
        rationale = str(row[source.rationale]).strip() if source.rationale else ""
        questions[key] = Question(content_id(args.name, key), args.name, text, target, rationale)
    return list(questions.values()), duplicates


def _rows(task: str, source: QuestionsArgs) -> Iterable[tuple[str, dict[str, Any]]]:
    path = Path(source.path).expanduser()
    if path.is_file():
        rows: Iterable[dict[str, Any]] = _read_file(path)
    elif path.suffix in LOCAL_FORMATS or source.path.startswith((".", "/", "~")):
        raise ConfigError(f"Task {task}: there is no file {source.path} (seen from {Path.cwd()}).")
    else:
        rows = _read_hub(task, source)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ConfigError(f"Task {task}: {source.path}, row {number}: not a table row but {_short(str(row))!r}.")
        yield f"{source.path}, row {number}", row


def _read_file(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in split_lines(path.read_text(encoding="utf-8")) if line.strip()]
        if path.suffix == ".json":
            return _rows_of_json(path, json.loads(path.read_text(encoding="utf-8")))
        if path.suffix == ".csv":
            # Not by pandas, which would turn `007`, `True` and `NA` into something else.
            with path.open(newline="", encoding="utf-8-sig") as file:
                return list(csv.DictReader(file))
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path).to_pylist()
    except (ValueError, OSError, csv.Error) as error:
        raise ConfigError(f"Can't read {path}: {error}.") from error
    raise ConfigError(f"Can't read {path}: expected one of {', '.join(LOCAL_FORMATS)}.")


def _rows_of_json(path: Path, content: Any) -> list[dict[str, Any]]:
    """A JSON file holds a list of rows, or an object in which exactly one value is one (as Big-Bench-Hard's do)."""
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else None
    if not isinstance(content, list):
        raise ConfigError(f"Can't read {path}: expected a list of rows, or an object with one list of rows in it.")
    return content


def _read_hub(task: str, source: QuestionsArgs) -> Iterable[dict[str, Any]]:
    import datasets

    try:
        return datasets.load_dataset(source.path, source.name, split=source.split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ConfigError(
            f"Task {task}: {source.path} is no file here, and could not be loaded from the Hub "
            f"(split {source.split!r}): {error}"
        ) from error


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "…"
