"""New questions in the form of some seed questions: the paper's question generation (section 3.1, appendix F)."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from arte_plugin.config.block import Block
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.language import prompts
from arte_plugin.language.question_tags import begun_before, parse_questions
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import NewQuestion, NoSettings, Unread
from arte_plugin.rows import Order


class NewQuestions:
    """`Order.wanted` new questions, shown `Order.seeds`."""

    makes: ClassVar[Literal["questions", "rationale"]] = "questions"
    Settings: ClassVar[type[Block]] = NoSettings
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing: the teacher's replies are those to the orders"

    def __init__(self, settings: NoSettings) -> None:
        pass

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """Each order is a call, which the stage counts."""
        return ()

    def prompt(self, task: TaskArgs, order: Order) -> str:
        """The task, the seed questions, and what is asked for."""
        shown = [(one.question, one.target) for one in order.seeds]
        return prompts.question_prompt(task.description, shown, order.wanted)

    def begun(self, task: TaskArgs, order: Order) -> str:
        """The tags of the first of them."""
        return prompts.question_prefill(len(order.seeds))

    def read(self, task: TaskArgs, order: Order, reply: str) -> Iterator[NewQuestion | Unread]:
        """What stands between the tags."""
        return read_tagged(reply)


def read_tagged(reply: str) -> Iterator[NewQuestion | Unread]:
    """The tagged questions of a reply, whatever else it holds; first what could not be read."""
    parsed, rejected = parse_questions(reply)
    for reason, text in rejected:
        yield Unread(reason, text)
    for one, begun in zip(parsed, begun_before(reply), strict=True):
        yield NewQuestion(one.question, one.target, begun)
