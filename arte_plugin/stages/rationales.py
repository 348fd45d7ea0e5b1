"""The teacher writes one rationale for each order. Shared by stages 1 and 6."""

from collections.abc import Mapping, Sequence

from arte_plugin.config.tasks import AnswerType
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Request
from arte_plugin.errors import TeacherError
from arte_plugin.language import answers, prompts
from arte_plugin.models.model import Model
from arte_plugin.plugs import NewRationale, Operator, Unread
from arte_plugin.rows import Dropped, Order
from arte_plugin.stages.nothing_usable import no_rationale
from arte_plugin.stages.orders import Ways, operator_of

#: Longest answer, in tokens, to what `elicit.prefill` puts behind a rationale.
ANSWER_TOKENS = 64


def write_rationales(
    task: Task, teacher: Model, orders: Sequence[Order], operators: Mapping[str, Operator], ways: Ways,
    needed: bool = True,
) -> tuple[list[tuple[str, str] | None], list[Dropped]]:  # fmt: skip
    """A rationale for each order as `(rationale, answer)`, or None where none came of it; and what was dropped.

    With `ways.prefill`, a rationale that ended without an answer is asked for it: the second prompt of zero-shot chain
    of thought (Kojima et al., 2022, section 3.1). Raises `TeacherError` when nothing usable has come at all of what is
    `needed`.
    """

    def ask(
        begun: Mapping[str, str], longest: int, stop: tuple[str, ...], answer: AnswerType | None, what: str
    ) -> dict[str, Completion]:
        """The rest of each reply, by id; `begun` holds the ids and how their replies begin."""
        requests = [
            Request(
                prompt=teacher.renderer.asking(texts[name], beginning),
                group=f"{task.name}/{ways.stage}/{name}",
                max_new_tokens=longest,
                temperature=ways.temperature,
                seed=ways.number(task.name, "rationale", name),
                stop=stop,
                answer=answer,
                thought=None if beginning else teacher.renderer.thought,
            )
            for name, beginning in begun.items()
        ]
        completions = teacher.ask(requests, f"{ways.stage} {task.name}: {what}")
        return dict(zip(begun, completions, strict=True))

    by_id = {order.order_id: order for order in orders}
    texts = {name: operator_of(operators, order).prompt(task.args, order) for name, order in by_id.items()}
    begins = {
        name: operator_of(operators, order).begun(task.args, order) if ways.prefill else ""
        for name, order in by_id.items()
    }
    replies = ask(begins, ways.max_new_tokens, prompts.RATIONALE_STOP, task.args.answer, "rationales")
    said = {name: teacher.renderer.said(reply.text) for name, reply in replies.items()}
    read = {
        name: _read(task, operator_of(operators, order), order, begins[name] + (said[name] or ""))
        for name, order in by_id.items()
    }
    rationales = {name: one.rationale for name, one in read.items() if isinstance(one, NewRationale)}
    if ways.prefill:
        begun = {
            name: rationale + prompts.ANSWER_PREFILL
            for name, rationale in rationales.items()
            if rationale and replies[name].finish == "stop" and prompts.ANSWER_BEGIN not in rationale
        }
        for name, reply in ask(begun, ANSWER_TOKENS, prompts.ANSWER_STOP, None, "answers").items() if begun else ():
            rationales[name] = begun[name] + prompts.closed_answer(reply.text)
    written: list[tuple[str, str] | None] = []
    dropped: list[Dropped] = []
    for name, one in read.items():
        rationale = rationales.get(name, "")
        answer = answers.tagged(rationale, task.args.answer)
        if said[name] is None:
            reason, rationale = "rationale_thought_unfinished", replies[name].text
        elif isinstance(one, Unread):
            cut_off = replies[name].finish == "length"
            reason, rationale = "rationale_truncated" if cut_off else f"rationale_{one.reason}", one.text
        elif teacher.renderer.special_strings_in(rationale):
            reason = "rationale_with_special_string"
        elif answer is not None:
            written.append((rationale, answer))
            continue
        else:
            reason = "rationale_truncated" if replies[name].finish == "length" else "rationale_without_answer"
        dropped.append(Dropped(ways.stage, reason, task.name, name, rationale))
        written.append(None)
    if needed and orders and len(dropped) == len(orders):
        raise TeacherError(no_rationale(task, teacher, dropped, ways.prefill))
    return written, dropped


def _read(task: Task, operator: Operator, order: Order, reply: str) -> NewRationale | Unread:
    """The one rationale of a reply; what an operator can't read otherwise is an empty one, without an answer."""
    for one in operator.read(task.args, order, reply):
        if isinstance(one, NewRationale | Unread):
            return one
    return NewRationale("")
