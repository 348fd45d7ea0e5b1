"""The teacher writes new questions, as they are ordered, until there are enough. Shared by stages 1 and 6."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from arte_plugin.data.same_question import comparable, strictly, targets_an_option
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Request
from arte_plugin.errors import StageError, TeacherError
from arte_plugin.language import answers
from arte_plugin.models.model import Model
from arte_plugin.plugs import NewQuestion, Operator, Unread
from arte_plugin.rows import Dropped, Order, Question, content_id
from arte_plugin.stages.nothing_usable import no_question
from arte_plugin.stages.orders import Ways, operator_of

#: Questions asked for without a single usable one after which a teacher is given up.
HOPELESS = 40


@dataclass(frozen=True)
class WrittenQuestion:
    """A new question with the answer that the teacher claims, and what it saw and had written before it."""

    question_id: str
    question: str
    target: str
    prompt: str
    #: What stood before it in the teacher's reply.
    begun: str
    order: Order

    def as_question(self) -> Question:
        """For the orders that start from it."""
        return Question(self.question_id, self.order.task, self.question, self.target)


@dataclass
class Asked:
    """What came of a task's orders."""

    kept: list[WrittenQuestion] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    #: How many questions each reply held that could be read, and how many it was asked for.
    held: list[int] = field(default_factory=list)
    ordered: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Put:
    """An order in words."""

    order: Order
    text: str
    #: How its reply is begun for the teacher.
    begun: str
    request: Request


def write_questions(
    task: Task, teacher: Model, orders: Iterator[Order], operators: Mapping[str, Operator], ways: Ways, wanted: int
) -> Asked:
    """Ask for questions, wave after wave, until `wanted` are there (paper, section 3.1) or nothing more is ordered.

    A wave is a quarter more than would do if every question were usable: it takes as long as its longest reply. Raises
    `TeacherError` when nothing usable has come after a bounded number of calls, `StageError` when nothing is ordered.
    """
    made = Asked()
    first = next(orders, None)
    if first is None:
        raise StageError(f"Task {task.name}: the plan orders nothing of the teacher, so that there are no questions.")
    # What the bounds are told in: most plans ask for as many by every call.
    per_call = first.wanted
    orders = _with(first, orders)
    hopeless = math.ceil(HOPELESS / per_call)
    most_calls = max(hopeless, ways.max_calls * math.ceil(wanted / per_call))
    taken = task.taken()
    replies: list[str] = []
    while len(made.kept) < wanted and len(replies) < most_calls:
        if len(replies) >= hopeless and not made.kept:
            break
        wave = islice(first_wave(orders, wanted - len(made.kept)), most_calls - len(replies))
        asked = [put(task, teacher, order, operators, ways) for order in wave]
        if not asked:
            break
        what = f"{ways.stage} {task.name}: questions ({len(made.kept)}/{wanted})"
        completions = teacher.ask([one.request for one in asked], what)
        for one, completion in zip(asked, completions, strict=True):
            replies.append(one.begun + completion.text)
            _read(task, teacher, one, completion, operator_of(operators, one.order), ways, wanted, taken, made)
    if not made.kept:
        raise TeacherError(no_question(task, teacher, replies, made.dropped, ways.prefill))
    return made


def _read(
    task: Task, teacher: Model, one: Put, completion: Completion, operator: Operator, ways: Ways, wanted: int,
    taken: dict[str, str], made: Asked,
) -> None:  # fmt: skip
    """Sort what a reply holds into what is kept, marked in `taken`, and what is dropped."""
    stage, source = ways.stage, f"call {one.order.order_id}"
    made.ordered.append(one.order.wanted)
    said = teacher.renderer.said(completion.text)
    if said is None:
        made.dropped.append(Dropped(stage, "question_thought_unfinished", task.name, source, completion.text))
        made.held.append(0)
        return
    held = 0
    for new in operator.read(task.args, one.order, one.begun + said):
        if isinstance(new, Unread):
            made.dropped.append(Dropped(stage, f"question_{new.reason}", task.name, source, new.text))
            continue
        if not isinstance(new, NewQuestion):
            raise StageError(f"The operator {one.order.operator} was asked for questions, and read {new!r}.")
        held += 1
        key = comparable(new.question)
        reason = None
        if answers.normalise(new.target, task.args.answer) is None:
            reason = "bad_target"
        elif not targets_an_option(new.question, new.target, task.args.answer):
            reason = "target_is_no_option"
        elif teacher.renderer.special_strings_in(new.question + new.target):
            reason = "question_with_special_string"
        elif key in taken:
            reason = "duplicate" if taken[key] == "new" else f"repeats_{taken[key]}"
        elif len(made.kept) == wanted:
            reason = "surplus"
        if reason:
            made.dropped.append(Dropped(stage, reason, task.name, source, f"{new.question} -> {new.target}"))
            continue
        taken[key] = "new"
        name = content_id(task.name, strictly(new.question))
        made.kept.append(WrittenQuestion(name, new.question, new.target, one.text, new.begun, one.order))
    made.held.append(held)


def first_wave(orders: Iterator[Order], wanted: int) -> Iterator[Order]:
    """The orders that are sent at once for `wanted` questions; no more are taken than it gives."""
    asked = 0
    while asked < 1.25 * wanted and (order := next(orders, None)) is not None:
        asked += order.wanted
        yield order


def put(task: Task, teacher: Model, order: Order, operators: Mapping[str, Operator], ways: Ways) -> Put:
    """An order for questions as a request."""
    operator = operator_of(operators, order)
    text = operator.prompt(task.args, order)
    begun = operator.begun(task.args, order) if ways.prefill else ""
    request = Request(
        prompt=teacher.renderer.asking(text, begun),
        group=f"{task.name}/{ways.stage}/{order.order_id}",
        max_new_tokens=ways.max_new_tokens,
        temperature=ways.temperature,
        seed=ways.number(task.name, "questions", order.order_id),
        thought=teacher.renderer.thought,
    )
    return Put(order, text, begun, request)


def _with(first: Order, rest: Iterable[Order]) -> Iterator[Order]:
    yield first
    yield from rest
