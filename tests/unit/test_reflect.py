"""The teacher criticises its own rationale and writes another: what it reads, and what of its reply counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.errors import DataError
from arte_plugin.language import answers
from arte_plugin.operators.reflect import Reflect, ReflectArgs
from arte_plugin.plugs import NewRationale, Unread
from arte_plugin.rows import Order, Question

TASK = TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number")
ORDER = Order("o1", "sums", "reflect", parent=Question("q1", "sums", "2 + 2?", "4"), rationale="4. <ans>4</ans>")


def _read(reply, **settings):
    return list(Reflect(ReflectArgs(**settings)).read(TASK, ORDER, reply))


def test_the_teacher_reads_the_question_the_rationale_and_what_is_wanted():
    assert Reflect(ReflectArgs()).prompt(TASK, ORDER) == (
        "Add.\n\nQuestion: 2 + 2?\n\nThis is an answer to it, step by step:\n4. <ans>4</ans>\n\n"
        "First say in a few sentences what is not good about it: whether it helps somebody who has to learn this, "
        "whether it keeps to the question, whether every step is right, and whether it is detailed enough. Leave the "
        "tags out there. Then write a better answer, complete in itself, between <better> and </better>. It helps "
        "somebody who has to learn this, keeps to the question, is right in every step, and detailed enough. In it, "
        "put the final answer between <ans> and </ans>: a number, without units, and nothing behind it."
    )


def test_without_a_critique_the_whole_reply_is_the_better_one():
    assert Reflect(ReflectArgs(critique=False, better="Check it.")).prompt(TASK, ORDER) == (
        "Add.\nPut the final answer between <ans> and </ans>: a number, without units.\n\n"
        "Question: 2 + 2?\nAnswer: 4. <ans>4</ans>\n\nWrite a better answer. Check it.\n\nQuestion: 2 + 2?\nAnswer:"
    )
    assert _read(" It is 4. <ans>4</ans>", critique=False) == [NewRationale("It is 4. <ans>4</ans>")]
    assert _read("Sure: <better>4. <ans>4</ans>", critique=False) == [NewRationale("4. <ans>4</ans>")]
    assert _read(" ", critique=False) == [Unread("empty", " ")]


def test_only_what_stands_behind_the_criticism_counts():
    better = "Two and two are four.\n<ans>4</ans>"
    for reply in (
        f"It is too short.\n<better>{better}</better>",
        f"Too short.\n<BETTER>\n{better}\n",
        f"I would write <better>…</better>. So:\n<better>{better}</better> That is better.",
    ):
        assert _read(reply) == [NewRationale(better)]
        assert answers.tagged(_read(reply)[0].rationale, "number") == "4"


def test_what_is_no_rationale_has_a_reason():
    assert _read("It is fine as it is. <ans>4</ans>") == [Unread("no_tags", "It is fine as it is. <ans>4</ans>")]
    assert _read("Hm.<better> </better>") == [Unread("empty", "Hm.<better> </better>")]


@given(st.text())
def test_what_is_not_behind_a_tag_makes_no_row(reply):
    assert _read(f"{reply.replace('<', '(')}") == [Unread("no_tags", reply.replace("<", "("))]
    [one] = _read(f"{reply}<better>{reply.replace('<', '(')}a")
    assert one == NewRationale(f"{reply.replace('<', '(')}a".strip())


def test_an_order_without_a_rationale_is_refused():
    with pytest.raises(DataError, match="works on examples"):
        Reflect(ReflectArgs()).prompt(TASK, Order("o1", "sums", "reflect", parent=ORDER.parent))
