"""Orders on their way to the teacher, and what the paper's plan orders."""

from itertools import islice

import pytest

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion
from arte_plugin.errors import StageError
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.operators.new_question import NewQuestions
from arte_plugin.planners.paper import Paper, PaperSettings, paper_orders
from arte_plugin.plugs import NoSettings
from arte_plugin.rows import Order, Question
from arte_plugin.stages.new_questions import first_wave, write_questions
from arte_plugin.stages.orders import RESIDENTS, Orders, Ways
from tests.plain import PlainRenderer


def task(name: str = "sums", seeds: int = 10) -> Task:
    args = TaskArgs(name=name, description="Add.", questions={"path": "unread.jsonl"}, answer="number")
    return Task(args, [Question(f"s{i}", name, f"{i} + {i}?", str(2 * i)) for i in range(seeds)], [], [], 0)


class Numbers:
    """A teacher that writes as many new questions as it is asked for, and keeps what it is asked."""

    def __init__(self, usable: bool = True):
        self.requests, self.waves, self.usable = [], [], usable

    def generate(self, batch, keep=None):
        self.requests += batch
        self.waves.append(len(batch))
        return [Completion(self._reply(one), "stop", 1, 1) for one in batch]

    def _reply(self, request):
        tags = "".join(
            f"<Question_4><input>{request.seed} + {i}?</input><target>{i}</target></Question_4>" for i in range(5)
        )
        return tags if self.usable else "I'd rather not."

    def report(self):
        return ""

    def close(self):
        pass


@pytest.fixture
def ask(tmp_path):
    """What comes of orders for the task `sums`, and the teacher that was asked."""

    def run(orders, wanted, engine=None, operators=RESIDENTS, **ways):
        engine = engine or Numbers()
        # Batches larger than any wave, so that each wave is one.
        teacher = Model("t", {}, PlainRenderer(), lambda: engine, RequestCache(tmp_path / "r.sqlite"), 1000, 10.0)
        how = Ways("regenerate", 1, 1.0, 64, **{"prefill": False, "max_calls": 10, **ways})
        return write_questions(task(), teacher, iter(orders), operators, how, wanted), engine

    return run


def test_the_papers_orders_are_the_calls_of_all_earlier_versions():
    orders = list(islice(paper_orders(task(), 3, 5, "regenerate", 42), 3))
    assert [(one.order_id, one.operator, one.wanted, len(one.seeds)) for one in orders] == [
        ("0", "new_question", 5, 3), ("1", "new_question", 5, 3), ("2", "new_question", 5, 3),
    ]  # fmt: skip
    # As drawn by the version before there were orders: random.Random("42/sums/regenerate/seeds/0").sample(seeds, 3).
    assert [[seed.question_id for seed in one.seeds] for one in orders] == [
        ["s6", "s2", "s8"], ["s6", "s2", "s7"], ["s1", "s7", "s8"],
    ]  # fmt: skip


def test_a_request_is_seeded_by_its_orders_id():
    assert Ways("regenerate", 42, 1.0, 64, False).number("sums", "questions", "0") == 1509335681


class Asked:
    stage, seed = "regenerate", 42


def test_tasks_take_turns_and_behind_another_planner_the_paper_goes_on():
    before = [Order("x", "sums", "similar_question")]
    plan = Paper(PaperSettings(questions_per_prompt=2)).plan([task("sums"), task("more")], before, {}, Asked(), {})
    orders = list(islice(plan, 5))
    assert [(one.order_id, one.task) for one in orders] == [
        ("x", "sums"), ("0", "sums"), ("0", "more"), ("1", "sums"), ("1", "more"),
    ]  # fmt: skip
    assert {one.wanted for one in orders[1:]} == {2}


def test_orders_of_other_tasks_wait_for_their_turn():
    drawn = []

    def plan():
        for i, name in enumerate("aabbab"):
            drawn.append(i)
            yield Order(str(i), name, "new_question")

    orders = Orders(plan())
    assert drawn == []
    of_b = orders.of("b")
    assert next(of_b).order_id == "2"
    assert drawn == [0, 1, 2]
    assert [one.order_id for one in orders.of("a")] == ["0", "1", "4"]
    assert [one.order_id for one in orders.of("b")] == ["3", "5"]
    assert list(orders.of("c")) == []


def test_a_plan_without_end_that_leaves_a_task_out_ends_for_it(monkeypatch):
    monkeypatch.setattr("arte_plugin.stages.orders.MOST_WAITING", 50)
    orders = Orders(paper_orders(task("a"), 3, 5, "regenerate", 1))
    assert list(orders.of("b")) == []
    assert next(orders.of("a")).order_id == "0"


@pytest.mark.parametrize(("wanted", "calls"), [(250, 63), (4, 1), (5, 2), (1, 1), (8, 2), (9, 3)])
def test_a_wave_is_a_quarter_more_than_would_do(wanted, calls):
    orders = paper_orders(task(), 3, 5, "regenerate", 1)
    assert len(list(first_wave(orders, wanted))) == calls
    # None is taken that is not sent.
    assert next(orders).order_id == str(calls)


def test_questions_come_wave_by_wave_until_there_are_enough(ask):
    made, engine = ask(paper_orders(task(), 3, 5, "regenerate", 1), 12)
    assert len(made.kept) == 12
    assert [row.reason for row in made.dropped] == ["surplus"] * 3
    assert engine.waves == [3]
    assert (made.held, made.ordered) == ([5, 5, 5], [5, 5, 5])
    assert sorted(one.group for one in engine.requests) == [f"sums/regenerate/{i}" for i in range(3)]
    assert {one.order.order_id for one in made.kept} == {"0", "1", "2"}


def test_a_teacher_that_writes_nothing_is_given_up(ask):
    engine = Numbers(usable=False)
    with pytest.raises(Exception, match="no usable question in 25 calls"):
        ask(paper_orders(task(), 3, 5, "regenerate", 1), 100, engine)
    # 25 calls are the first wave of 100 questions; 40 questions asked for in vain, 8 calls, would have done.
    assert engine.waves == [25]


def test_orders_may_end_before_there_are_enough(ask):
    orders = [Order(str(i), "sums", "new_question", 5) for i in range(2)]
    made, engine = ask(orders, 100)
    assert len(made.kept) == 10
    assert engine.waves == [2]


def test_a_plan_that_orders_nothing_says_so(ask):
    with pytest.raises(StageError, match="Task sums: the plan orders nothing"):
        ask([], 10)


def test_an_operator_that_the_planner_has_not_named_is_told(ask):
    with pytest.raises(StageError, match="is for the operator similar, which its planner doesn't name"):
        ask([Order("0", "sums", "similar")], 10)


def test_notes_are_for_operators_that_ask_for_them(ask):
    class WithNotes(NewQuestions):
        def prompt(self, task, order):
            return super().prompt(task, order) + "\n" + "\n".join(order.notes)

    orders = [Order("0", "sums", "new_question", 5, notes=("Carry the one.",))]
    _, engine = ask(orders, 1, operators={"new_question": WithNotes(NoSettings())})
    assert "Carry the one." in engine.requests[0].prompt
    _, engine = ask(orders, 2)
    assert "Carry the one." not in engine.requests[0].prompt
