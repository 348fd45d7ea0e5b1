"""Of an example and its rewritten form, the better one: perplexities are set by hand."""

import math
from dataclasses import replace

import pytest

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Likelihood
from arte_plugin.plugs import Evidence
from arte_plugin.rows import Dropped, TailoredExample
from arte_plugin.selectors.reflected import Reflected, ReflectedArgs
from tests.staged_asking import Bare, Somebody, StagedAsking

TASK = Task(
    TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number"), [], [], [], 0
)
OLD = TailoredExample("sums", "old q", "4", "old r", "4", "old p")


class Renderer(Bare):
    """An empty turn is no empty text."""

    def prompt(self, text, prefill=""):
        return super().prompt(text, prefill) or "|"

    def part_of_reply(self, text):
        return text


class Perplexed(StagedAsking):
    """`ratios` are of a text behind another one: {(behind, text): perplexity ratio}, of one token each."""

    def likelihoods(self, who, replies, what):
        self.asked.append((who.name, what, len(replies)))
        return [Likelihood(self._log(who, reply), 1, 9) for reply in replies]

    def _log(self, who, reply):
        if reply.prompt == "|":
            return -math.log(10)
        [ratio] = [
            ratio
            for (name, behind, text), ratio in self.ratios.items()
            if name == who.name and behind in reply.prompt and text == reply.text
        ]
        return -math.log(10 * ratio)


def _asking(ifd, reversed_ifd, students=("student",)):
    """Values by (question, rationale)."""
    asking = Perplexed(students=tuple(Somebody(name, Renderer()) for name in students))
    asking.ratios = {(name, q, r): value for name in students for (q, r), value in ifd.items()}
    asking.ratios |= {(name, r, q): value for name in students for (q, r), value in reversed_ifd.items()}
    return asking


def _select(asking, *examples, **settings):
    found = list(Reflected(ReflectedArgs(**settings)).select(TASK, examples, Evidence(), asking))
    kept = [one for one in found if isinstance(one, TailoredExample)]
    return kept, {one.reason: one.text for one in found if isinstance(one, Dropped)}


def _rewritten(question="old q", rationale="new r"):
    return replace(OLD, question=question, rationale=rationale, origin=OLD.rewritten_as("reflect"))


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ((0.5, 0.6), ""),
        ((0.5, 0.8), "reversed_ifd_no_lower"),
        ((0.5, 0.9), "reversed_ifd_no_lower"),
        ((1.1, 0.6), "not_below_one"),
        ((0.1, 0.79), ""),
    ],
)
def test_a_rationale_that_tells_more_of_its_question_takes_the_place_of_the_old(after, reason):
    old, new = ("old q", "old r"), ("old q", "new r")
    asking = _asking({old: 0.7, new: after[0]}, {old: 0.8, new: after[1]})
    kept, dropped = _select(asking, OLD, _rewritten())
    if reason:
        assert kept == [OLD] and dropped == {f"reflection_{reason}": "new r"}
    else:
        assert kept == [_rewritten()] and dropped == {"rewritten": "old r"}
    # Four texts for each of both.
    assert sum(count for *_, count in asking.asked) == 8


def test_what_is_above_one_may_stay_if_that_is_said():
    old, new = ("old q", "old r"), ("old q", "new r")
    asking = _asking({old: 0.7, new: 1.1}, {old: 0.8, new: 0.6})
    assert _select(asking, OLD, _rewritten(), below_one=False)[0] == [_rewritten()]


@pytest.mark.parametrize(("ifd", "kept"), [(0.8, True), (0.7, False), (0.6, False)])
def test_a_rewritten_question_must_be_harder(ifd, kept):
    old, new = ("old q", "old r"), ("new q", "new r")
    asking = _asking({old: 0.7, new: ifd}, {old: 0.8, new: 0.6})
    assert _select(asking, OLD, _rewritten("new q"))[0] == [_rewritten("new q") if kept else OLD]


def test_an_engine_that_sees_no_context_makes_both_one_and_nothing_is_rewritten():
    """Ratios of exactly 1, as when likelihood is a matter of the text alone."""
    texts = [("old q", "old r"), ("old q", "new r")]
    kept, dropped = _select(_asking(dict.fromkeys(texts, 1.0), dict.fromkeys(texts, 1.0)), OLD, _rewritten())
    assert kept == [OLD] and dropped == {"reflection_reversed_ifd_no_lower": "new r"}


def test_of_several_students_the_mean_decides():
    old, new = ("old q", "old r"), ("old q", "new r")
    asking = _asking({old: 0.7, new: 0.7}, {old: 0.8, new: 0.7}, ("one", "two"))
    asking.ratios["two", "new r", "old q"] = 0.95
    # 0.8 before, (0.7 + 0.95) / 2 = 0.825 after.
    assert _select(asking, OLD, _rewritten())[0] == [OLD]
    assert [who for who, *_ in asking.asked] == ["one", "one", "two", "two"]


def test_an_example_that_was_not_rewritten_stays_and_nobody_is_asked():
    asking = _asking({}, {})
    assert _select(asking, OLD) == ([OLD], {}) and asking.asked == []
    assert _select(asking, OLD, only_rewritten=True) == ([], {"not_rewritten": "old r"})


def test_nothing_is_lost_without_a_word():
    other = replace(OLD, question="other q", rationale="other r")
    stray = replace(_rewritten(rationale="stray r"), origin="reflect/of-nobody")
    same = replace(OLD, origin=OLD.rewritten_as("reflect"))
    texts = {("old q", "old r"): 0.5}
    kept, dropped = _select(_asking(texts, texts), OLD, same, other, stray)
    assert kept == [OLD, other]
    assert dropped == {"reflection_unchanged": "old r", "reflection_of_nothing": "stray r"}
    kept, dropped = _select(_asking(texts, texts), OLD, same, only_rewritten=True)
    assert kept == [] and set(dropped) == {"reflection_unchanged", "not_improved"}


def test_examples_of_another_operator_are_no_rewritten_ones():
    replied = replace(OLD, rationale="other r", origin="rephrase/x")
    assert _select(_asking({}, {}), OLD, replied)[0] == [OLD, replied]
