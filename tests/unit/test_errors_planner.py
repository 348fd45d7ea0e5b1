"""Orders from what the student gets wrong, and the words in which the teacher hears of it."""

from itertools import islice

import pytest

from arte_plugin.config import plugs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.errors import DataError
from arte_plugin.operators.similar_question import SimilarQuestion
from arte_plugin.plan.work import Sizes
from arte_plugin.planners.errors import Errors
from arte_plugin.plugs import Evidence, NewQuestion, Unread
from arte_plugin.rows import Draft, Order, Question, TailoredExample
from tests.staged_asking import Somebody, StagedAsking


def _task(name="sums", seeds="abc", validation="xy"):
    args = TaskArgs(name=name, description="Add.", questions={"path": "unread.jsonl"}, answer="number")
    made = [[Question(f"{name}-{q}", name, f"{name} {q}?", "4") for q in split] for split in (seeds, validation)]
    return Task(args, *made, [], 0)


def _asking(wrong="ac", unparsed="", task="sums", **more):
    replies = {("student", f"{task} {q}?"): "<ans>4</ans>" for q in "abcdefxyz"}
    replies |= {("student", f"{task} {q}?"): "It is <ans>5</ans>" for q in wrong}
    replies |= {("student", f"{task} {q}?"): "dunno" for q in unparsed}
    return StagedAsking(replies, **more)


def _plan(asking, tasks=None, orders=(), evidence=None, take=20, **settings):
    tasks = tasks or [_task()]
    planner = Errors(Errors.Settings(**settings))
    planned = planner.plan(tasks, orders, evidence or {}, asking, {task.name: 9 for task in tasks})
    return list(islice(planned, take))


def _parents(orders):
    return [order.parent.question[-2] for order in orders]


def test_each_question_that_the_student_fails_has_its_orders():
    orders = _plan(_asking(wrong="ac"), per_error=1)
    assert _parents(orders) == ["a", "c"]
    assert [order.attempt.answer for order in orders] == ["5", "5"]
    assert {order.operator for order in orders} == {"similar_question"} and {order.wanted for order in orders} == {1}
    assert orders[0].seeds == () and orders[0].errors == () and orders[0].notes == ()


def test_turns_go_on_for_as_long_as_there_is_need_and_no_order_comes_twice():
    orders = _plan(_asking(wrong="ac"), take=7)
    assert _parents(orders) == list("acacaca")
    assert len({order.order_id for order in orders}) == 7
    assert _plan(_asking(wrong="ac"), per_error=2) == orders[:4]


def test_what_cannot_be_read_is_an_error_unless_it_shall_not_be():
    assert _parents(_plan(_asking(wrong="c", unparsed="a"), per_error=1)) == ["a", "c"]
    assert _parents(_plan(_asking(wrong="c", unparsed="a"), per_error=1, order="wrong_first")) == ["c", "a"]
    assert _parents(_plan(_asking(wrong="c", unparsed="a"), per_error=1, unparsed=False)) == ["c"]


def test_which_questions_are_asked_is_said_by_origin():
    draft = Draft("d1", "sums", "sums-d", "sums d?", "4", "split", "", "4", "", "")
    twin = Draft("d2", "sums", "sums-d", "sums d?", "4", "rule", "", "4", "", "")
    kept = TailoredExample("sums", "sums e?", "4", "<ans>4</ans>", "4", "")
    evidence = {"sums": Evidence(drafts=[draft, twin], kept=[kept])}
    asking = _asking(wrong="abcdexy")
    assert _parents(_plan(asking, evidence=evidence, per_error=1)) == list("abc")
    assert _parents(_plan(asking, evidence=evidence, per_error=1, origin=["draft", "tailored"])) == list("de")
    assert _parents(_plan(asking, evidence=evidence, per_error=1, origin="validation")) == list("xy")
    assert [asked[2] for asked in asking.asked] == [3, 2, 2]


def test_without_errors_there_is_no_order_but_a_word(caplog):
    assert _plan(_asking(wrong="")) == []
    assert "task sums: there is no question of the origin seed that the student gets wrong" in caplog.text


def test_a_task_without_errors_keeps_the_orders_of_the_planner_before():
    tasks = [_task(), _task("differences")]
    before = [Order(f"{name}-{i}", name, "new_question") for i in range(2) for name in ("sums", "differences")]
    asking = _asking(wrong="", task="differences")
    asking.replies |= _asking(wrong="ac").replies
    assert [order.task for order in _plan(asking, tasks, before, per_error=1)[:2]] == ["sums", "sums"]
    # Used up, the errors are followed by what comes from before.
    assert _plan(asking, tasks, before, per_error=1)[2:] == before
    # Errors' orders have no end, and the task without any must not wait for it.
    endless = _plan(asking, tasks, before, take=9)
    assert [order.task for order in endless] == [*["sums", "sums", "differences"] * 2, *["sums"] * 3]
    assert [order for order in endless if order.task == "differences"] == [before[1], before[3]]
    asking.replies |= _asking(wrong="").replies
    assert _plan(asking, tasks, before) == before


def test_tasks_take_turns_and_one_student_is_asked_at_a_time():
    tasks = [_task(), _task("differences")]
    students = (Somebody("student"), Somebody("other"))
    asking = _asking(wrong="ab")
    asking.replies |= _asking(wrong="c", task="differences").replies
    asking.students = students
    orders = _plan(asking, tasks, per_error=1)
    assert [who for who, *_ in asking.asked] == ["student", "student", "other", "other"]
    assert [order.task for order in orders[:4]] == ["sums", "differences"] * 2
    assert {order.attempt.who for order in orders} == {"student", "other"}


def test_what_several_students_get_wrong_is_shown_once():
    asking = _asking(wrong="abc")
    asking.replies |= {("other", question): reply for (_, question), reply in asking.replies.items()}
    asking.students = (Somebody("student"), Somebody("other"))
    for order in _plan(asking, errors_shown=3, per_error=2):
        assert len({order.parent.question_id, *(question.question_id for question, _ in order.errors)}) == 3


def test_more_errors_and_seeds_are_shown_but_none_twice():
    tasks = [_task(seeds="abcdef")]
    orders = _plan(_asking(wrong="abcd"), tasks, errors_shown=3, seeds_shown=3, questions=10, per_error=1)
    for order in orders:
        shown = [order.parent, *(question for question, _ in order.errors), *order.seeds]
        assert len(order.errors) == 2 and len(order.seeds) == 3 and order.wanted == 10
        assert len({question.question_id for question in shown}) == 6
    assert len(_plan(_asking(wrong="ab"), tasks, errors_shown=3, per_error=1)[0].errors) == 1


@pytest.mark.parametrize("settings", [{}, {"order": "shuffled"}, {"errors_shown": 2, "seeds_shown": 2}])
def test_the_same_orders_come_whatever_interrupted_them(settings):
    first = _plan(_asking(wrong="abdf"), [_task(seeds="abcdef")], **settings)
    assert first == _plan(_asking(wrong="abdf"), [_task(seeds="abcdef")], **settings)
    assert first[:5] == _plan(_asking(wrong="abdf"), [_task(seeds="abcdef")], take=5, **settings)
    if settings:
        other = _plan(_asking(wrong="abdf", seed=8), [_task(seeds="abcdef")], **settings)
        assert [order.order_id for order in other] != [order.order_id for order in first]


def test_the_settings_are_checked():
    assert plugs.chosen("planners", {"errors": {"origin": "draft"}}).settings.origin == ["draft"]
    with pytest.raises(ValueError, match="seed stands there twice"):
        plugs.chosen("planners", {"errors": {"origin": ["seed", "seed"]}})
    with pytest.raises(ValueError, match="did you mean `per_error`"):
        plugs.chosen("planners", {"errors": {"per_eror": 2}})


def _prompt(order, **settings):
    operator = SimilarQuestion(SimilarQuestion.Settings(**settings))
    return operator.prompt(_task().args, order)


def test_the_teacher_sees_the_question_and_its_answer():
    [order, *_] = _plan(_asking(wrong="a"))
    assert _prompt(order) == (
        "Add.\n\n"
        "A student got this question wrong; here it is with its right answer:\n"
        "<Question_1><input>sums a?</input><target>4</target></Question_1>\n\n"
        "Write 1 new question for this student to practise on: like it, and solved in the same way, but not the same, "
        "with its right answer, in the same form, as <Question_2>."
    )
    assert _prompt(order, show_answer=True).count("The student wrote: It is <ans>5</ans>") == 1


def test_a_long_reply_of_the_student_is_shown_by_its_end():
    asking = _asking()
    asking.replies["student", "sums a?"] = "word " * 100 + "<ans>5</ans>"
    [order, *_] = _plan(asking)
    said = _prompt(order, show_answer=True, longest_answer=50).partition("The student wrote: ")[2].partition("\n")[0]
    assert said.startswith("… ") and said.endswith("<ans>5</ans>") and len(said) <= 52


def test_several_errors_and_seeds_are_numbered_through():
    tasks = [_task(seeds="abcdef")]
    [order, *_] = _plan(_asking(wrong="ab"), tasks, errors_shown=2, seeds_shown=2, questions=5)
    text = _prompt(order)
    assert [text.count(f"<Question_{i}><input>") for i in range(1, 6)] == [1, 1, 1, 1, 0]
    assert (
        "A student got these 2 questions wrong; here they are with their right answers:" in text
        and "from <Question_5> to <Question_9>" in text
    )
    assert SimilarQuestion(SimilarQuestion.Settings()).begun(tasks[0].args, order) == "<Question_5><input>"


def test_replies_are_read_and_nothing_in_them_is_lost():
    [order, *_] = _plan(_asking(wrong="a"))
    reply = (
        "<Question_2><input>2 + 2</input><target>4</target></Question_2>\n"
        "<Question_3><input>3 + 3</input></Question_3>\n<Question_4><input>4 +"
    )
    operator = SimilarQuestion(SimilarQuestion.Settings())
    found = list(operator.read(_task().args, order, reply))
    assert {(one.question, one.target) for one in found if isinstance(one, NewQuestion)} == {("2 + 2", "4")}
    assert sorted(one.reason for one in found if isinstance(one, Unread)) == ["malformed", "truncated"]
    [lost] = operator.read(_task().args, order, "I can't.")
    assert (lost.reason, lost.text) == ("no_tags", "I can't.")


def test_an_order_without_an_error_is_refused():
    with pytest.raises(DataError, match="has no question that the student got wrong"):
        _prompt(Order("o1", "sums", "similar_question"))


def test_the_plan_counts_an_attempt_for_each_question_of_its_origins():
    sizes = Sizes(20, 4, 16, 8, [0], 12, seeds=3, seed_questions=24)
    for origin, calls in (("seed", 24), ("validation", 16), ("draft", 20), (["seed", "draft"], 44), ("tailored", 0)):
        [work] = Errors(Errors.Settings(origin=origin)).calls(sizes)
        assert (work.who, work.calls) == ("student", calls)
