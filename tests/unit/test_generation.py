"""The teacher's rationales, from a teacher whose every reply is staged: real ones rarely fail on demand."""

import pytest
from transformers import AutoTokenizer

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.same_question import comparable
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion
from arte_plugin.errors import TeacherError
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.operators.solve import Solve
from arte_plugin.planners.paper import paper_orders
from arte_plugin.plugs import NoSettings
from arte_plugin.rows import Order, Question
from arte_plugin.stages.new_questions import write_questions
from arte_plugin.stages.orders import RESIDENTS, Ways
from arte_plugin.stages.rationales import write_rationales
from tests.tiny import tiny_model

ORDERS = [
    Order(name, "sums", "solve", parent=Question("q1", "sums", text, "4"))
    for name, text in (("q1-a", "What is 2 + 2?"), ("q1-b", "And 2 + 3?"))
]


class Bare(Solve):
    """Its prompt is the question alone, so that a staged reply can be told by how a prompt ends."""

    def prompt(self, task, order):
        return order.parent.question


class Staged:
    """An engine that says what it was told to say, by what its prompt ends in."""

    def __init__(self, replies):
        self.replies = replies
        self.asked = []

    def generate(self, batch, keep=None):
        self.asked += [request.prompt for request in batch]
        return [Completion(*self._reply(request.prompt), 1, 1) for request in batch]

    def _reply(self, prompt):
        return next(reply for ending, reply in self.replies.items() if prompt.endswith(ending))

    def report(self):
        return ""

    def close(self):
        pass


@pytest.fixture
def write(tmp_path):
    """Rationales for `ORDERS` from a teacher with staged replies, and the teacher."""
    args = TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number")
    task = Task(args, [], [], [], 0)
    renderer = Renderer(AutoTokenizer.from_pretrained(tiny_model(tmp_path / "model", chat_template=False)), "auto")

    def run(replies, prefill):
        engine = Staged(replies)
        cache = RequestCache(tmp_path / "requests.sqlite")
        teacher = Model("the teacher", {}, renderer, lambda: engine, cache, 4, 10.0)
        ways = Ways("elicit", 1, 0.0, 32, prefill)
        written, dropped = write_rationales(task, teacher, ORDERS, {"solve": Bare(NoSettings())}, ways)
        return written, dropped, engine

    return run


REPLIES = {
    "2 + 2?": ("Two and two.", "stop"),
    "2 + 3?": (" <ans>5</ans>", "stop"),
    "So the answer is <ans>": ("4</ans>", "stop"),
}


def test_an_answer_that_was_left_out_is_asked_for_with_prefill(write):
    written, dropped, engine = write(REPLIES, prefill=True)
    assert written == [("Two and two.\nSo the answer is <ans>4</ans>", "4"), ("<ans>5</ans>", "5")]
    assert not dropped
    assert len(engine.asked) == 3


@pytest.mark.parametrize("line", ["4</ans>", " 4.\n", " = 4\n", "4</ans> and more"])
def test_the_tag_that_was_opened_for_the_teacher_is_closed_for_it(write, line):
    written, _, _ = write({**REPLIES, "So the answer is <ans>": (line, "stop")}, prefill=True)
    assert written[0] == ("Two and two.\nSo the answer is <ans>4</ans>", "4")


@pytest.mark.parametrize("line", ["four, I think\n", "\n"])
def test_an_answer_that_is_none_is_dropped(write, line):
    replies = {**REPLIES, "2 + 2?": ("The answer is 4.", "stop"), "So the answer is <ans>": (line, "stop")}
    written, dropped, _ = write(replies, prefill=True)
    assert written[0] is None
    assert [row.reason for row in dropped] == ["rationale_without_answer"]


def test_without_prefill_it_is_a_rationale_without_answer(write):
    written, dropped, engine = write(REPLIES, prefill=False)
    assert written == [None, ("<ans>5</ans>", "5")]
    assert [(row.reason, row.id, row.text) for row in dropped] == [("rationale_without_answer", "q1-a", "Two and two.")]
    assert len(engine.asked) == 2


def test_a_rationale_cut_off_by_its_length_is_not_asked_for_an_answer(write):
    written, dropped, engine = write({**REPLIES, "2 + 2?": ("Two and two and", "length")}, prefill=True)
    assert written[0] is None
    assert [row.reason for row in dropped] == ["rationale_truncated"]
    assert len(engine.asked) == 2


def test_no_rationale_at_all_says_what_was_seen(write):
    replies = {"2 + 2?": ("I like sums.", "stop"), "2 + 3?": ("So do I.", "length")}
    with pytest.raises(TeacherError) as raised:
        write(replies, prefill=False)
    for said in ("sums: none of the 2 rationales of the teacher the teacher", "1 rationale_truncated",
                 "1 rationale_without_answer", "arte.elicit.prefill: true", "I like sums."):  # fmt: skip
        assert said in str(raised.value)


@pytest.fixture
def questions(tmp_path):
    """The questions that are kept, and the reasons for the others, of a teacher whose every reply is `reply`."""
    args = TaskArgs(name="shapes", description="Choose.", questions={"path": "unread.jsonl"}, answer="choice")
    renderer = Renderer(AutoTokenizer.from_pretrained(tiny_model(tmp_path / "model", chat_template=False)), "auto")
    own = Question("q0", "shapes", "Which is round?\n(A) ball\n(B) box", "(A)")
    task = Task(args, [own], [], [], 0, elsewhere={comparable("Which is flat? (A) sea (B) hill"): "test"})

    def run(*written):
        reply = "".join(f"<Question_2><input>{q}</input><target>{t}</target></Question_2>" for q, t in written)
        engine = Staged({"": (reply, "stop")})
        teacher = Model("t", {}, renderer, lambda: engine, RequestCache(tmp_path / "requests.sqlite"), 4, 10.0)
        ways = Ways("elicit", 1, 1.0, 64, prefill=False, max_calls=10)
        made = write_questions(task, teacher, paper_orders(task, 3, 1, "elicit", 1), RESIDENTS, ways, 1)
        assert set(made.held) == {len(written)}
        return made.kept, [row.reason for row in made.dropped]

    return run


def test_no_question_repeats_one_of_any_task_in_whatever_order_its_options_are(questions):
    kept, reasons = questions(
        ("which is round?\n(A) Box\n(B) Ball", "B"),
        ("Which is flat?\n(A) hill.\n(B) sea.", "(B)"),
        ("Which is red?\n(A) hill\n(B) rose", "(B)"),
    )
    assert [one.question for one in kept] == ["Which is red?\n(A) hill\n(B) rose"]
    assert reasons[:2] == ["repeats_seed", "repeats_test"]


def test_a_target_that_is_none_of_the_options_makes_no_question(questions):
    kept, reasons = questions(("Which is red?\n(A) hill\n(B) rose", "(C)"), ("Which is red?\n(A) a\n(B) b", "(B)"))
    assert [one.question for one in kept] == ["Which is red?\n(A) a\n(B) b"]
    assert reasons[0] == "target_is_no_option"


def test_a_question_keeps_what_the_teacher_had_written_before_it(questions):
    kept, _ = questions(("which is round?\n(A) Box\n(B) Ball", "B"), ("Which is red?\n(A) hill\n(B) rose", "(B)"))
    before = "<Question_2><input>which is round?\n(A) Box\n(B) Ball</input><target>B</target></Question_2>"
    assert [one.begun for one in kept] == [before]
