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

#: What an answer is criticised for: the paper's helpfulness, relevance, accuracy and detail.
CRITERIA = (
    "whether it helps somebody who has to learn this, whether it keeps to the question, whether every step is right, "
    "and whether it is detailed enough"
)
BETTER = "It helps somebody who has to learn this, keeps to the question, is right in every step, and detailed enough."


class ReflectArgs(Block):
    """Settings of `reflect`."""

    critique: bool = Field(
        True,
        description="Whether the teacher first says what could be better, as in the paper, and then writes between "
        "tags. Without, it is only asked to write a better one, in the form of the other prompts, and its whole reply "
        "is taken: for small teachers.",
    )
    better: str = Field(
        BETTER, min_length=1, description="What a better answer is, in a sentence or two that the teacher reads."
    )


class Reflect:
    """The teacher sees a question and its rationale, says what could be better, and writes another rationale.

    Only what stands between the tags behind the criticism makes a row; the criticism reaches no student. It is the
    paper's second reflection, that on the response: the question, which has a target, stays as it is.
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
        yield Work("regenerate", "reflections", "teacher", calls, tokens, tokens, calls * 2 * of.rationale,
            calls * 2 * of.rationale,
        )  # fmt: skip

    def prompt(self, task: TaskArgs, order: Order) -> str:
        """The question, its rationale, and what is wanted. Raises `DataError` for an order without one of them."""
        if order.parent is None or not order.rationale:
            raise DataError(
                f"The order {order.order_id} of the task {order.task} has no question with a rationale, which "
                "`reflect` writes another for: it works on examples, behind `solve`."
            )
        question, rationale = order.parent.question, order.rationale
        if not self.settings.critique:
            # As a technique's prompt ends, which every teacher has been asked with.
            return (
                f"{prompts.solve_prefix(task.description, task.answer)}Question: {question}\nAnswer: {rationale}\n\n"
                f"Write a better answer. {self.settings.better}\n\nQuestion: {question}\nAnswer:"
            )
        return (
            f"{task.description}\n\nQuestion: {question}\n\nThis is an answer to it, step by step:\n{rationale}\n\n"
            f"First say in a few sentences what is not good about it: {CRITERIA}. Leave the tags out there. Then write "
            f"a better answer, complete in itself, between {BEGIN} and {END}. {self.settings.better} In it, put the "
            f"final answer between <ans> and </ans>{prompts.ANSWER_FORMS.get(task.answer, '')}, and nothing behind it."
        )

    def begun(self, task: TaskArgs, order: Order) -> str:
        """Not at all: what comes first is the teacher's own."""
        return ""

    def read(self, task: TaskArgs, order: Order, reply: str) -> Iterator[NewQuestion | NewRationale | Unread]:
        """What stands behind the last opening tag, up to the closing one if there is one; without a critique, else all.

        A reply ends behind its answer, and so before that tag. Reasons: `no_tags`, `empty`.
        """
        begins = list(_BEGIN.finditer(reply))
        if not begins and self.settings.critique:
            yield Unread("no_tags", reply)
            return
        better = _END.split(reply[begins[-1].end() if begins else 0 :])[0].strip()
        yield NewRationale(better) if better else Unread("empty", reply)
