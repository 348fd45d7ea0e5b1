"""Questions shared out among tasks by how far the student is behind: all figures are worked out by hand."""

import math

import pytest

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.errors import ConfigError
from arte_plugin.planners.gap_shares import GapShares, GapSharesArgs, shares_of, whole_numbers
from arte_plugin.plugs import Shares
from arte_plugin.rows import Order, Question
from tests.staged_asking import Somebody, StagedAsking


def _task(name, n=4):
    args = TaskArgs(name=name, description="Add.", questions={"path": "unread.jsonl"}, answer="number")
    return Task(args, [], [Question(f"{name}-{i}", name, f"{name} {i}?", str(i)) for i in range(n)], [], 0)


TASKS = [_task("near"), _task("far")]


def _right(who, task, count):
    return {(who, f"{task} {i}?"): f"<ans>{i}</ans>" for i in range(count)}


def _shares(asking, wanted=None, **settings):
    planner = GapShares(GapSharesArgs(**settings))
    assert isinstance(planner, Shares)
    return planner.shares(TASKS, {}, asking, wanted or {"near": 12, "far": 12})


def test_shares_are_those_of_the_paper():
    assert shares_of({"a": 1, "b": 1, "c": 1}, GapSharesArgs()) == pytest.approx(dict.fromkeys("abc", 1 / 3))
    # e / (e + e²) = 0.26894: half of it and a quarter.
    assert shares_of({"a": 1, "b": 2}, GapSharesArgs()) == pytest.approx({"a": 0.384471, "b": 0.615529}, abs=1e-6)
    # A temperature of 0.5 makes it exp(2) to exp(4), of which the first is 0.11920.
    sharp = shares_of({"a": 1, "b": 2}, GapSharesArgs(temperature=0.5, smooth=1.0))
    assert sharp == pytest.approx({"a": 0.119203, "b": 0.880797}, abs=1e-6)
    assert shares_of({"a": 0, "b": 9}, GapSharesArgs(smooth=0.0)) == {"a": 0.5, "b": 0.5}


def test_none_falls_below_its_floor_and_a_huge_gap_is_no_overflow():
    shares = shares_of({"a": 1, "b": 2, "c": 5000}, GapSharesArgs())
    assert shares == pytest.approx({"a": 1 / 6, "b": 1 / 6, "c": 2 / 3})


@pytest.mark.parametrize("total", [3, 7, 24, 250])
@pytest.mark.parametrize("gaps", [(0, 0, 0), (0.1, 0.5, 0.9), (0, 0, 50)])
@pytest.mark.parametrize("smooth", [0.0, 0.5, 1.0])
def test_counts_are_whole_and_add_up(total, gaps, smooth):
    shares = shares_of(dict(zip("abc", gaps, strict=True)), GapSharesArgs(smooth=smooth))
    counts = whole_numbers(shares, total)
    assert sum(counts.values()) == total and min(counts.values()) >= 1
    if min(shares.values()) * total >= 1:
        assert all(abs(counts[name] - share * total) < 1 for name, share in shares.items())


def test_the_gap_is_in_right_answers():
    # near: teacher 3 of 4, student 3 of 4; far: 4 of 4 and 0 of 4. exp(0) to exp(1): 0.26894 and 0.73106.
    replies = _right("teacher", "near", 3) | _right("student", "near", 3) | _right("teacher", "far", 4)
    asking = StagedAsking(replies)
    counts = _shares(asking)
    # 24 × (0.26894 / 2 + 0.25) = 9.23, and 14.77.
    assert counts == {"near": 9, "far": 15}
    # The teacher, which is to write next, is asked last, and each model once.
    assert [who for who, *_ in asking.asked] == ["student", "student", "teacher", "teacher"]


def test_a_teacher_that_fails_too_earns_its_task_nothing(caplog):
    caplog.set_level("INFO")
    worse = _right("student", "far", 2) | _right("teacher", "near", 3) | _right("student", "near", 3)
    assert _shares(StagedAsking(worse)) == {"near": 12, "far": 12}
    said = "task near: of 4 validation questions right: teacher 75 % (30 to 95), student 75 % (30 to 95); share 0.500"
    assert said in caplog.text


def test_of_several_students_the_mean_counts():
    replies = _right("teacher", "far", 4) | _right("one", "far", 4)
    asking = StagedAsking(replies, students=(Somebody("one"), Somebody("two")))
    # Gaps of 0 and 1/2: exp(0.5) / (1 + exp(0.5)) = 0.62246, of which half and a quarter are 0.56123: 13.47 of 24.
    assert _shares(asking) == {"near": 11, "far": 13}


def test_by_perplexity_it_is_the_papers_ratio():
    # Two tokens each: the student's perplexity is e on both, the teacher's e on one and e/2 on the other.
    answers = [f"{i}</ans>" for i in range(4)]

    class OfTask(StagedAsking):
        def likelihoods(self, who, replies, what):
            found = -2.0 if who.name == "student" or what == "gaps near" else -2.0 + 2 * math.log(2)
            self.weights = {(who.name, answer): found for answer in answers}
            assert all(reply.prompt.endswith("<ans>") for reply in replies)
            return super().likelihoods(who, replies, what)

    # Ratios 1 and 2: shares 0.3845 and 0.6155 of 26 are 9.996 and 16.004.
    assert _shares(OfTask(), {"near": 13, "far": 13}, by="perplexity") == {"near": 10, "far": 16}


def test_orders_go_through_as_they_are_and_there_must_be_some():
    orders = [Order(str(i), "near", "new_question") for i in range(3)]
    planner = GapShares(GapSharesArgs())
    assert list(planner.plan(TASKS, orders, {}, StagedAsking(), {})) == orders
    with pytest.raises(ConfigError, match=r"plan: \[paper, gap_shares\]"):
        list(planner.plan(TASKS, [], {}, StagedAsking(), {}))
