"""The teacher criticises an example's rationale and writes a better one (Selective Reflection-Tuning, 2402.10110)."""

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.errors import DataError
from arte_plugin.language import prompts
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import NewQuestion, NewRationale, Unread
from arte_plugin.rows import Order

BEGIN, END = "<better>", "</better>"

_BEGIN = re.compile(re.escape(BEGIN), re.IGNORECASE)
_END = re.compile(re.escape(END), re.IGNORECASE)

#: What an answer is criticised for, in the order of the paper's criteria: helpfulness, relevance, accuracy, detail.
CRITERIA = (
    "whether it helps somebody who has to learn this",
    "whether it keeps to the question",
    "whether every step is right",
    "and whether it is detailed enough",
)


class ReflectArgs(Block):
    """Settings of `reflect`."""

    critique: bool = Field(
        True,
        description="Whether the teacher first says what could be better, as in the paper; without, it is only asked "
        "to write a better one. A small teacher whose replies are begun (`elicit.prefill`) leaves the criticism out.",
    )


class Reflect:
    """The teacher sees a question and its rationale, says what could be better, and writes another rationale.

    Only what stands between the tags behind the criticism makes a row; the criticism reaches no student. It makes the
    paper's second reflection, that on the response: a question whose right answer the target is stays as it is.
    """

    Settings: ClassVar[type[Block]] = ReflectArgs
    makes: ClassVar[Literal["questions", "rationale"]] = "rationale"
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "the teacher: a reply to each example"

    def __init__(self, settings: ReflectArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """A call for each example, which is shown."""
        of, calls = sizes.teacher, sizes.examples
        tokens = calls * (of.chat + of.before + of.question + of.frame + of.rationale)
        yield Work("regenerate", "reflections", "teacher", calls, tokens, tokens, calls * 2 * of.rationale)

    def prompt(self, task: TaskArgs, order: Order) -> str:
        """The question, its rationale, and what is wanted. Raises `DataError` for an order without one of them."""
        if order.parent is None or not order.rationale:
            raise DataError(
                f"The order {order.order_id} of the task {order.task} has no question with a rationale, which "
                "`reflect` writes another for: it works on examples, behind `solve`."
            )
        better = f"write a better answer, complete in itself, between {BEGIN} and {END}"
        end = (
            f"In it, put the final answer between <ans> and </ans>{prompts.ANSWER_FORMS.get(task.answer, '')}, and "
            "nothing behind it."
        )
        if self.settings.critique:
            wanted = (
                f"First say in a few sentences what is not good about it: {', '.join(CRITERIA)}. Leave the tags out "
                f"there. Then {better}. {end}"
            )
        else:
            wanted = f"{better[0].upper()}{better[1:]}. {end}"
        return (
            f"{task.description}\n\nQuestion: {order.parent.question}\n\nThis is an answer to it, step by step:\n"
            f"{order.rationale}\n\n{wanted}"
        )

    def begun(self, task: TaskArgs, order: Order) -> str:
        """The tag before the better rationale."""
        return BEGIN

    def read(self, task: TaskArgs, order: Order, reply: str) -> Iterator[NewQuestion | NewRationale | Unread]:
        """What stands behind the last opening tag, up to the closing one if there is one.

        A reply ends behind its answer, and so before that tag. Reasons: `no_tags`, `empty`.
        """
        begins = list(_BEGIN.finditer(reply))
        if not begins:
            yield Unread("no_tags", reply)
            return
        better = _END.split(reply[begins[-1].end() :])[0].strip()
        yield NewRationale(better) if better else Unread("empty", reply)
