"""Labelled questions from one source: its rows, and how their columns become a question, its options and its answer."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from arte_plugin.config.tasks import QuestionsArgs, TaskArgs
from arte_plugin.data.local_files import is_local, read_file
from arte_plugin.data.same_question import comparable, is_same, strictly
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.language import answers, prompts
from arte_plugin.rows import Question, content_id


class Labelled(NamedTuple):
    """What a source holds."""

    questions: list[Question]
    #: Questions that stood there more than once, left out.
    duplicates: int
    #: Rows that could not be used, left out where the source says `bad_rows: drop`.
    bad_rows: int


class _BadRow(Exception):
    """Why a row can't be used."""


def read_source(task: TaskArgs, source: QuestionsArgs) -> Labelled:
    """All questions of a source, in its order.

    Raises `ConfigError` for a source that is not there or lacks a column, `DataError` for a row that can't be used,
    unless such rows are to be dropped.
    """
    questions: dict[str, Question] = {}
    alike: dict[str, list[Question]] = {}
    duplicates = bad_rows = 0
    for place, row in _rows(task.name, source):
        _require_columns(task.name, source, place, row)
        try:
            question = _question(task, source, place, row)
            known = questions.get(strictly(question.question))
            if known and not answers.same(known.target, question.target, task.answer):
                raise _BadRow(f"{short(question.question)!r} stands there twice, with different answers")
            others = alike.setdefault(comparable(question.question), [])
            # With different answers, what they differ in has a meaning here.
            if known or any(is_same(one, question, task.answer) for one in others):
                duplicates += 1
                continue
            questions[strictly(question.question)] = question
            others.append(question)
        except _BadRow as problem:
            if source.bad_rows == "stop":
                raise DataError(
                    f"Task {task.name}: {place}: {problem}. Put the row, its columns or the task's `answer` type "
                    "right, or leave such rows out by `bad_rows: drop`."
                ) from None
            bad_rows += 1
    return Labelled(list(questions.values()), duplicates, bad_rows)


def short(text: str) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= 120 else text[:117] + "…"


def _question(task: TaskArgs, source: QuestionsArgs, place: str, row: Mapping[str, Any]) -> Question:
    text, answer = _text(row[source.question]), _text(row[source.answer])
    rationale = _text(row[source.rationale]) if source.rationale else ""
    if source.answer_after:
        before, mark, after = answer.rpartition(source.answer_after)
        if not mark:
            raise _BadRow(f"there is no {source.answer_after!r} in the answer {short(answer)!r}")
        answer = after.strip()
        if source.rationale == source.answer:
            rationale = before.strip()
    if source.rationale_without:
        begin, end = map(re.escape, source.rationale_without)
        rationale = re.sub(f"{begin}.*?{end}", "", rationale, flags=re.DOTALL)
    if not text:
        raise _BadRow("the question is empty")
    if source.options:
        options, labels = _options(task.name, source, place, row)
        answer = f"({ascii_uppercase[_place(answer, options, labels)]})"
        lines = (f"({letter}) {option}" for letter, option in zip(ascii_uppercase, options, strict=False))
        text = "\n".join([text, "Options:", *lines])
    if answers.normalise(answer, task.answer) is None:
        raise _BadRow(f"{short(answer)!r} is no {task.answer} answer")
    if rationale and prompts.ANSWER_BEGIN not in rationale:
        # An example that ends otherwise would teach the reader a form in which no answer is found.
        rationale = f"{rationale}\n{prompts.bare_rationale(answer)}"
    return Question(content_id(task.name, strictly(text)), task.name, text, answer, rationale)


def _options(
    task: str, source: QuestionsArgs, place: str, row: Mapping[str, Any]
) -> tuple[list[str], list[str] | None]:
    """The options of a row, and their labels if they have any."""
    labels = None
    if isinstance(source.options, list):
        texts: Any = [row[column] for column in source.options]
    else:
        texts = found = row[str(source.options)]
        if isinstance(texts, Mapping):
            texts, labels = texts.get("text"), texts.get("label")
        if not isinstance(texts, list) or not (labels is None or isinstance(labels, list)):
            raise ConfigError(
                f"Task {task}: {place}: column {source.options!r} holds neither a list of options nor "
                f"{{text: […], label: […]}}, but {short(str(found))!r}. If each option has a column of its own, name "
                "these: `options: [first, second]`."
            )
    options = [_text(text) for text in texts]
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise _BadRow(f"it has {len(options)} options, and 2 to {len(ascii_uppercase)} can be told apart by letters")
    if "" in options:
        raise _BadRow(f"option ({ascii_uppercase[options.index('')]}) is empty")
    if labels is not None and len(labels) != len(options):
        raise _BadRow(f"it has {len(options)} options, but {len(labels)} labels")
    return options, None if labels is None else [_text(label) for label in labels]


def _place(answer: str, options: Sequence[str], labels: Sequence[str] | None) -> int:
    """Which option an answer means, counted from 0."""
    if labels is not None:
        if labels.count(answer) != 1:
            raise _BadRow(f"the answer {short(answer)!r} is not one of the labels {', '.join(labels)}")
        return labels.index(answer)
    last = len(options) - 1
    if re.fullmatch(r"[0-9]{1,2}", answer):
        place = int(answer)
    elif letter := re.fullmatch(r"\(?([A-Za-z])[).]?", answer):
        place = ascii_uppercase.index(letter[1].upper())
    else:
        place = len(options)
    if place > last:
        raise _BadRow(
            f"the answer {short(answer)!r} is neither a place from 0 to {last} nor a letter from A to "
            f"{ascii_uppercase[last]}"
        )
    return place


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _require_columns(task: str, source: QuestionsArgs, place: str, row: Mapping[str, Any]) -> None:
    options = source.options if isinstance(source.options, list) else [source.options]
    for column in filter(None, (source.question, source.answer, source.rationale, *options)):
        if column not in row:
            raise ConfigError(
                f"Task {task}: {place} has no column {column!r}. It has: {', '.join(map(str, row))}. "
                "Name the right one in `questions: {question: …, answer: …}`."
            )


def _rows(task: str, source: QuestionsArgs) -> Iterable[tuple[str, dict[str, Any]]]:
    path = Path(source.path).expanduser()
    if source.revision and is_local(source.path):
        raise ConfigError(f"Task {task}: {source.path} is a file here, which has no `revision`: take that out.")
    if not is_local(source.path):
        rows: Iterable[Any] = _read_hub(task, source)
    elif path.is_file():
        rows = read_file(path)
    else:
        raise ConfigError(f"Task {task}: there is no file {source.path} (seen from {Path.cwd()}).")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ConfigError(f"Task {task}: {source.path}, row {number}: not a table row but {short(str(row))!r}.")
        yield f"{source.path}, row {number}", row


def _read_hub(task: str, source: QuestionsArgs) -> Iterable[dict[str, Any]]:
    import datasets

    try:
        return datasets.load_dataset(source.path, source.name, split=source.split, revision=source.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ConfigError(
            f"Task {task}: {source.path} is no file here, and could not be loaded from the Hub "
            f"(split {source.split!r}{f', revision {source.revision!r}' if source.revision else ''}): {error}"
        ) from error
