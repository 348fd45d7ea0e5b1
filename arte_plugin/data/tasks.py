"""Tasks with their questions: drawing the splits, and making sure that no two splits overlap."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from arte_plugin.config.tasks import AnswerType, QuestionsArgs, TaskArgs
from arte_plugin.data.same_question import comparable, comparable_answer, is_same
from arte_plugin.data.sources import Labelled, read_source, short
from arte_plugin.errors import DataError
from arte_plugin.rows import Question


@dataclass(frozen=True)
class Task:
    """A task and its disjoint splits."""

    args: TaskArgs
    seeds: list[Question]
    validation: list[Question]
    test: list[Question]
    #: Questions that stood in a source more than once, left out.
    duplicates: int
    #: Rows of a source that could not be used, left out because it says so.
    bad_rows: int = 0
    #: Validation questions that no preference set is chosen from, where there are rounds.
    held_out: list[Question] = field(default_factory=list)
    #: The run's other tasks' questions, in the form in which they are compared, with the split of each.
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    #: Test questions left out because a teacher from elsewhere was aligned on them.
    aligned_on: int = 0

    @property
    def name(self) -> str:
        """The task's name in every file and table."""
        return self.args.name

    def splits(self) -> dict[str, list[Question]]:
        """The three splits by name, and the held-out validation questions where there are any."""
        splits = {"seed": self.seeds, "validation": self.validation, "test": self.test}
        return {**splits, "held_out": self.held_out} if self.held_out else splits

    def taken(self) -> dict[str, str]:
        """What no generated question may repeat: all questions of the run, comparable, with the split of each."""
        own = {comparable(q.question): split for split, questions in self.splits().items() for q in questions}
        return {**self.elsewhere, **own}


def load_tasks(tasks: Sequence[TaskArgs], seed: int, held_out: float = 0.0) -> list[Task]:
    """All tasks of a run, each as `load_task` reads it, and held against one another.

    Raises what `load_task` does, and `DataError` where a question is in two tasks, in different splits.
    """
    loaded = [load_task(task, seed, held_out) for task in tasks]
    if len(loaded) == 1:
        return loaded
    seen: dict[str, list[tuple[Task, str, Question]]] = {}
    for task in loaded:
        for split, questions in task.splits().items():
            for question in questions:
                alike = seen.setdefault(comparable(question.question), [])
                for other, there, twin in alike:
                    if other is not task and there != split and _same_answer(task, question, other, twin):
                        raise DataError(_overlap_of_tasks(other.name, there, task.name, split, question.question))
                alike.append((task, split, question))
    return [
        replace(
            task,
            elsewhere={
                form: places[0][1]
                for form, found in seen.items()
                if (places := [one for one in found if one[0] is not task])
            },
        )
        for task in loaded
    ]


def load_task(args: TaskArgs, seed: int, held_out: float = 0.0) -> Task:
    """Read a task's questions and draw its splits, the same for the same `seed`.

    `held_out` is a share of the validation questions to be kept apart.
    Raises `ConfigError` for a source that is not there or lacks a column, `DataError` for too few questions, a target
    that is no answer of the task's kind, and for splits that overlap.
    """
    main = Labelled([], 0, 0) if args.questions is None else read_source(args, args.questions)
    read = [main]
    drawn = list(main.questions)
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
            f"{len(drawn)}{left_out(main.duplicates, main.bad_rows)}. Ask for fewer, or give more."
        )

    splits: dict[str, list[Question]] = {}
    taken = 0
    for key in ("seed_questions", "validation_questions"):
        value = wanted[key]
        if isinstance(value, QuestionsArgs):
            read.append(read_source(args, value))
            splits[key] = read[-1].questions
        else:
            splits[key] = drawn[taken : taken + numbers[key]]
            taken += numbers[key]
    # Taken from the other end, so that the test set stays the same when the other splits grow.
    test = wanted["test_questions"]
    if isinstance(test, QuestionsArgs):
        read.append(read_source(args, test))
        splits["test_questions"] = read[-1].questions
    else:
        count = len(drawn) - taken if test is None else numbers["test_questions"]
        splits["test_questions"] = drawn[len(drawn) - count :]

    duplicates, bad_rows = sum(source.duplicates for source in read), sum(source.bad_rows for source in read)
    for key, questions in splits.items():
        if not questions:
            raise DataError(
                f"Task {args.name}: `{key}` is empty{left_out(duplicates, bad_rows)}. Give it at least one question."
            )
    _refuse_overlap(args.name, splits, args.answer)
    seeds, validation, test_questions = splits.values()
    apart = max(1, round(held_out * len(validation))) if held_out else 0
    if apart == len(validation):
        raise DataError(
            f"Task {args.name}: of {len(validation)} `validation_questions` {apart} are held out, which leaves none to "
            "choose the preference set from. Give more, or lower `held_out`."
        )
    kept, held = validation[: len(validation) - apart], validation[len(validation) - apart :]
    return Task(args, seeds, kept, test_questions, duplicates, bad_rows, held)


def left_out(duplicates: int, bad_rows: int, aligned_on: int = 0) -> str:
    """How many rows of a task's sources are in no split and why, in brackets; empty if there are none."""
    counts = {"duplicate": duplicates, "unusable row": bad_rows, "test question that was aligned on": aligned_on}
    shown = [f"{count} {what if count == 1 else _plural(what)}" for what, count in counts.items() if count]
    return f" ({' and '.join(shown)} left out)" if shown else ""


def _plural(what: str) -> str:
    return what.replace("question that was", "questions that were") if "question" in what else f"{what}s"


def _source(args: TaskArgs) -> str:
    return args.questions.path if args.questions else "`questions`"


def _refuse_overlap(task: str, splits: Mapping[str, Sequence[Question]], kind: AnswerType) -> None:
    seen: dict[str, list[tuple[str, Question]]] = {}
    for key, questions in splits.items():
        for question in questions:
            alike = seen.setdefault(comparable(question.question), [])
            for there, twin in alike:
                if there != key and is_same(twin, question, kind):
                    raise DataError(
                        f"Task {task}: `{there}` and `{key}` overlap, so results would mean nothing. "
                        f"Both hold: {short(question.question)!r}. Take it out of one of them."
                    )
            alike.append((key, question))


def _same_answer(task: Task, question: Question, other: Task, twin: Question) -> bool:
    """Two tasks may ask different things about the same text; then it has different answers, and none gives another."""
    return comparable_answer(question, task.args.answer) == comparable_answer(twin, other.args.answer)


def _overlap_of_tasks(task: str, split: str, other: str, other_split: str, question: str) -> str:
    return (
        f"Tasks {task} and {other}: the {split} questions of {task} and the {other_split} questions of {other} "
        f"overlap, so results would mean nothing. Both hold: {short(question)!r}. If they are drawn from "
        "one source, give each split of both tasks a file of its own (`seed_questions: {path: …}` and so on)."
    )
