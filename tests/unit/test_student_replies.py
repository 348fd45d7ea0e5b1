"""Form and content apart: how replies end, asking again, and stopping where next to nothing can be read."""

import dataclasses
import json
from dataclasses import asdict

import pytest

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Request
from arte_plugin.errors import StageError
from arte_plugin.language import prompts
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student_replies import ANSWER_TOKENS, student_replies
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, Question, Response, Score, read_rows, write_rows
from arte_plugin.stages.probing import Tally, probe, probe_racing
from arte_plugin.stages.readable import Readings, readable_lines, refuse_unreadable, sample_size
from arte_plugin.stages.respond import respond

ARGS = TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number")
SEEDS = [Question(f"s{i}", "sums", f"What is {i} + 1?", str(i + 1)) for i in range(2)]
TASK = Task(ARGS, SEEDS, [Question(f"v{i}", "sums", f"What is {i} + 9?", str(i + 9)) for i in range(4)], [], 0)


class Plain:
    style = "plain"

    def prompt(self, text):
        return text


class Shy:
    """Gives its answer, 7, only where its tag is begun; every so many-th time it does so unasked."""

    def __init__(self, unasked=0, finish="length"):
        self.unasked, self.finish, self.asked = unasked, finish, []

    def generate(self, batch, keep=None):
        self.asked += batch
        return [self._one(request) for request in batch]

    def _one(self, request):
        if request.prompt.endswith(prompts.ANSWER_PREFILL):
            return Completion(" 7.\nWell", "stop", 9, 4)
        if self.unasked and hash(len(request.prompt)) % self.unasked == 0:
            return Completion(" <ans>7</ans>", "stop", 9, 3)
        return Completion(" It makes seven, I guess.\nQuestion:", self.finish, 9, 20)

    def report(self):
        return ""

    def close(self):
        pass


def student(path, engine):
    return Model("s", {}, Plain(), lambda: engine, RequestCache(path), 8, 10.0)


def made(drafts, questions):
    """Drafts and preference questions whose answer is 7, all prompts of another length."""
    some = [Draft(f"q{i}-a", "sums", f"q{i}", "x" * i, "4", "a", "Two. ", "4", "", "") for i in range(drafts)]
    return some, [PreferenceQuestion(f"p{i}", "sums", "y" * (i * drafts), "7", None, None) for i in range(questions)]


def test_a_reply_without_answer_is_asked_for_it():
    requests = [Request(f"Q{i}", "a", 20, 0.0, 0, prompts.RATIONALE_STOP, "number") for i in range(3)]
    written = [
        Completion(" I put it between <ans> and </ans>.\nQuestion:", "stop", 1, 9),
        Completion(" <ans>5</ans>", "stop", 1, 3),
        Completion(" Well, that is", "length", 1, 20),
    ]
    asked = []

    def ask(more):
        asked.extend(more)
        return [Completion(" 7</ans>", "stop", 1, 2) for _ in more]

    first, second, third = student_replies(requests, written, ask)
    mention = " I put it between <ans> and </ans>."
    assert first.text == f"{mention}\nSo the answer is <ans>7</ans>"
    assert (first.finish, first.new_tokens, first.asked_again) == ("stop", 11, True)
    assert asdict(second) == {"text": " <ans>5</ans>", "finish": "stop", "new_tokens": 3, "asked_again": False}
    # It was cut off all the same.
    assert (third.finish, third.asked_again) == ("length", True)
    assert [one.prompt for one in asked] == [
        f"Q0{mention}{prompts.ANSWER_PREFILL}", f"Q2 Well, that is{prompts.ANSWER_PREFILL}"
    ]  # fmt: skip
    assert {(one.max_new_tokens, one.stop, one.answer) for one in asked} == {(ANSWER_TOKENS, prompts.ANSWER_STOP, None)}
    assert [one.text for one in student_replies(requests, written, None)] == [one.text for one in written]


@pytest.mark.parametrize("budget", ["full", "racing"])
def test_probes_ask_again_and_say_so(tmp_path, budget):
    drafts, chosen = made(6, 5)
    settings = ProbeArgs(ask_again=True, budget=budget, racing={"first": 2, "step": 1, "share": 0.7})

    def ask(engine):
        one = student(tmp_path / "cache.sqlite", engine)
        if budget == "full":
            return list(probe(TASK, drafts, chosen, one, settings))
        return probe_racing(TASK, drafts, chosen, one, settings, 0.25, 1)

    engine = Shy(unasked=3)
    rows = ask(engine)
    assert {row.outcome for row in rows} == {"correct"}
    again = [row for row in rows if row.asked_again]
    assert 0 < len(again) < len(rows) and len(engine.asked) == len(rows) + len(again)
    assert {(row.finish, row.new_tokens) for row in again} == {("length", 24)}
    assert {(row.finish, row.new_tokens) for row in rows if not row.asked_again} == {("stop", 3)}
    assert all(row.response.endswith("\nSo the answer is <ans>7</ans>") for row in again)
    assert ask(None) == rows


def test_respondents_ask_again_like_the_probes(tmp_path):
    for again, outcomes in ((False, {"unparsed"}), (True, {"correct", "wrong"})):
        one = student(tmp_path / f"{again}.sqlite", Shy())
        rows = respond(TASK, one, "s", 0, ProbeArgs(ask_again=again), 1)
        assert {row.outcome for row in rows} <= outcomes and {row.asked_again for row in rows} == {again}
        assert {row.finish for row in rows} == {"length"}


def test_an_unreadable_reply_is_shown_without_what_a_terminal_obeys(tmp_path):
    drafts, chosen = made(60, 40)
    engine = Shy()
    written = engine.generate

    def generate(batch, keep=None):
        return [dataclasses.replace(one, text="\x1b[2J\x07seven\rno") for one in written(batch, keep)]

    engine.generate = generate
    with pytest.raises(StageError) as caught:
        list(probe(TASK, drafts, chosen, student(tmp_path / "r.sqlite", engine), ProbeArgs()))
    assert r"\x1b[2J\x07seven\rno" in str(caught.value)
    assert not set("\x1b\x07\r") & set(str(caught.value))


@pytest.mark.parametrize("budget", ["full", "racing"])
@pytest.mark.parametrize(("finish", "way"), [("length", "raise `probe.max_new_tokens`"), ("stop", "prompt_style")])
def test_a_run_of_unreadable_probes_stops_early_and_says_how_to_go_on(tmp_path, budget, finish, way):
    drafts, chosen = made(60, 40)

    def ask(engine, **settings):
        settings = ProbeArgs(budget=budget, **settings)
        one = student(tmp_path / f"{settings.min_readable}.sqlite", engine)
        if budget == "full":
            return list(probe(TASK, drafts, chosen, one, settings))
        return probe_racing(TASK, drafts, chosen, one, settings, 0.25, 1)

    engine = Shy(finish=finish)
    with pytest.raises(StageError, match="first 120 probes of s, 120 have no answer") as caught:
        ask(engine)
    assert way in str(caught.value) and "probe.min_readable: 0" in str(caught.value)
    assert "probe.ask_again: true" in str(caught.value) and "seven, I guess" in str(caught.value)
    # 5 % of 2,400, and no more.
    assert len(engine.asked) == 120
    assert len(ask(Shy(), min_readable=0)) > 1000
    assert len(ask(Shy(unasked=2), min_readable=0.2)) > 1000


def test_few_probes_tell_too_little_to_stop(tmp_path):
    drafts, chosen = made(9, 11)
    assert len(list(probe(TASK, drafts, chosen, student(tmp_path / "c.sqlite", Shy()), ProbeArgs()))) == 99
    assert [sample_size(n) for n in (99, 100, 1000, 40_000)] == [0, 100, 100, 2000]


def rows_of(**counts):
    endings = {"correct": ("correct", "stop"), "wrong": ("wrong", "stop"), "cut_off": ("unparsed", "length"),
               "no_answer": ("unparsed", "stop")}  # fmt: skip
    return [
        Probe("d", f"{name}{i}", "sums", "s", "", "", *endings[name][:1], finish=endings[name][1], new_tokens=3)
        for name, count in counts.items()
        for i in range(count)
    ]


def test_the_limit_is_the_limit():
    refuse_unreadable(rows_of(wrong=10, no_answer=90), 0.1, False)
    with pytest.raises(StageError, match=r"91 have no answer that can be read \(90 cut off, 1 without") as caught:
        refuse_unreadable(rows_of(correct=9, cut_off=90, no_answer=1), 0.1, True)
    assert "ask_again" not in str(caught.value)


def test_form_and_content_are_told_apart():
    rows = rows_of(correct=20, wrong=10, cut_off=6, no_answer=4)
    readings = Readings.of(rows)
    assert readings.note() == "50.0 % correct = 75.0 % readable × 66.7 % of these; unparsed: 6 cut off, 4 no answer"
    assert Readings.of(rows_of(correct=1, wrong=1)).note() == "50.0 % correct"
    assert Readings.of(rows_of(no_answer=1)).note() == "0.0 % correct = 0.0 % readable; unparsed: 1 no answer"
    tally = Tally()
    list(tally.counted(rows))
    [score] = tally.scores([Draft("d", "sums", "q", "", "", "a", "", "", "", "")])
    assert score.readable * score.right_when_readable == score.score == 0.5
    assert (score.unparsed, score.cut_off, score.asked_again) == (10, 6, 0)
    chosen = [PreferenceQuestion(f"p{i}", "sums", "?", target, None, None) for i, target in enumerate("1121")]
    head, line = readable_lines(tally.by_task, chosen)
    assert dict(zip(head, line, strict=True)) == {
        "task": "sums", "student": "s", "probes": "40", "readable": "75.0 % (59.8 to 85.8), n=40",
        "right when readable": "66.7 % (48.8 to 80.8), n=30", "s_r": "50.0 % (35.2 to 64.8), n=40",
        "one answer to all": "75.0 %", "cut off": "6", "no answer": "4", "asked again": "0",
    }  # fmt: skip


def test_rows_of_early_versions_can_be_read(tmp_path):
    file = tmp_path / "rows.jsonl"
    for row_type, row in (
        (Probe, Probe("d", "p", "t", "s", "r", "a", "unparsed")),
        (Response, Response("r", 0, "t", "q", "r", "a", "wrong")),
        (Score, Score("d", "q", "t", "s", 0.5, 4, 0.1, 0.9, 1)),
    ):
        later = {"finish", "new_tokens", "asked_again", "cut_off", "readable", "right_when_readable"}
        early = {name: value for name, value in dataclasses.asdict(row).items() if name not in later}
        file.write_text(json.dumps(early) + "\n")
        assert read_rows(file, row_type) == [row]
        write_rows(file, [row])
        assert read_rows(file, row_type) == [row]
    assert Readings.of([Probe("d", "p", "t", "s", "r", "a", "unparsed")]).no_answer == 1
