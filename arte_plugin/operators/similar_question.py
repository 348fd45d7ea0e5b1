"""New questions like one that the student got wrong (LLM2LLM, arXiv 2403.15042; DataEnvGym, arXiv 2410.06215)."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.errors import DataError
from arte_plugin.language import prompts
from arte_plugin.operators.new_question import read_tagged
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import NewQuestion, NewRationale, Unread
from arte_plugin.rows import Attempt, Order, Question


class SimilarQuestionArgs(Block):
    """Settings of `similar_question`."""

    show_answer: bool = Field(
        False,
        description="Whether the teacher also sees what the student wrote. LLM2LLM's prompt shows the question and "
        "its answer alone, DataEnvGym's the student's reply too.",
    )
    show_solution: bool = Field(
        True,
        description="Whether the teacher also sees the worked solution of a question that has one, as LLM2LLM's.",
    )
    longest_answer: int = Field(
        600, ge=50, description="For `show_answer`: of a longer reply the teacher sees the last so many characters."
    )


class SimilarQuestion:
    """The teacher sees the question, its right answer and, if asked for, what the student wrote; it writes others.

    In the tags of the paper's question prompt, which go on behind the questions that are shown. Besides, it is shown
    the order's seeds and further errors, if there are any.
    """

    Settings: ClassVar[type[Block]] = SimilarQuestionArgs
    makes: ClassVar[Literal["questions", "rationale"]] = "questions"
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing: the teacher's replies are those to the orders"

    def __init__(self, settings: SimilarQuestionArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """None beyond those that the stage makes of its orders anyway."""
        return ()

    def prompt(self, task: TaskArgs, order: Order) -> str:
        """The task, the seeds if any, what the student got wrong, and how many new questions are wanted.

        Raises `DataError` for an order without the question that it starts from.
        """
        errors = _errors(order)
        parts = [task.description]
        if order.seeds:
            shown = "\n".join(prompts.tagged_question(i, q.question, q.target) for i, q in enumerate(order.seeds, 1))
            parts.append(f"Here are {len(order.seeds)} questions of this kind, each with its answer:\n{shown}")
        what, here = "this question", "here it is with its right answer"
        if len(errors) > 1:
            what, here = f"these {len(errors)} questions", "here they are with their right answers"
        first = len(order.seeds) + 1
        wrong = "\n".join(self._wrong(i, *error) for i, error in enumerate(errors, first))
        parts.append(f"A student got {what} wrong; {here}:\n{wrong}")
        parts.append(_request(order, first + len(errors)))
        return "\n\n".join(parts)

    def begun(self, task: TaskArgs, order: Order) -> str:
        """The tags of the first new question."""
        return prompts.question_prefill(len(order.seeds) + len(_errors(order)))

    def read(self, task: TaskArgs, order: Order, reply: str) -> Iterator[NewQuestion | NewRationale | Unread]:
        """The questions between tags. What can't be read is `malformed`, `truncated`, `empty` or `no_tags`."""
        yield from read_tagged(reply)

    def _wrong(self, number: int, question: Question, attempt: Attempt | None) -> str:
        lines = [prompts.tagged_question(number, question.question, question.target)]
        if self.settings.show_solution and question.rationale:
            lines.append(f"Its solution: {question.rationale}")
        if self.settings.show_answer and attempt is not None:
            said = attempt.response.strip()
            if len(said) > self.settings.longest_answer:
                said = "… " + said[-self.settings.longest_answer :].lstrip()
            lines.append(f"The student wrote: {said or '(nothing)'}")
        return "\n".join(lines)


def _errors(order: Order) -> list[tuple[Question, Attempt | None]]:
    if order.parent is None:
        raise DataError(
            f"The order {order.order_id} of the task {order.task} has no question that the student got wrong, and "
            "`similar_question` writes others like it: plan with `errors`."
        )
    return [(order.parent, order.attempt), *order.errors]


def _request(order: Order, first: int) -> str:
    like = "it" if not order.errors else "them"
    if order.wanted == 1:
        return (
            f"Write 1 new question for this student to practise on: like {like}, and solved in the same way, but not "
            f"the same, with its right answer, in the same form, as <Question_{first}>."
        )
    return (
        f"Write {order.wanted} new questions for this student to practise on: like {like}, and solved in the same way, "
        f"but unlike one another, each with its right answer, in the same form, from <Question_{first}> to "
        f"<Question_{first + order.wanted - 1}>."
    )
