"""Probing part by part, with an engine that answers at once: rows, batches and memory."""

import tracemalloc
from collections import deque

import pytest

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, iter_rows, read_rows, write_rows
from arte_plugin.stages import probing as stage
from arte_plugin.stages.probing import Tally, probe, probe_racing

TASK = Task(
    TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number"), [], [], [], 0
)


class Plain:
    style = "plain"

    def prompt(self, text):
        return text


class AtOnce:
    """Answers with the length of the prompt, and keeps what it was asked if it is told to."""

    def __init__(self, batches=None):
        self.batches = batches

    def generate(self, batch, keep=None):
        if self.batches is not None:
            self.batches.append([request.prompt for request in batch])
        return [Completion(f"So it is <ans>{len(one.prompt) % 7}</ans>", "stop", 9, 9) for one in batch]

    def report(self):
        return ""

    def close(self):
        pass


def student(path, engine, served=False):
    return Model("s", {}, Plain(), lambda: engine, RequestCache(path), 3, 10.0, served=served)


def made(drafts, questions):
    """Every other draft has its neighbour's text: their requests are the same."""
    some = [
        Draft(f"q{i}-a", "sums", f"q{i}", f"What is {i // 2} + 2?", "4", "a", "Two and two. " * 9, "4", "", "")
        for i in range(drafts)
    ]
    return some, [PreferenceQuestion(f"p{i}", "sums", f"{i} + {i}?", str(i), None, None) for i in range(questions)]


@pytest.mark.parametrize("questions", [5, 1])
def test_parts_change_neither_rows_nor_batches(tmp_path, monkeypatch, questions):
    drafts, chosen = made(9, questions)
    found = []
    for name, part in (("whole", 10_000), ("parts", 10)):
        monkeypatch.setattr(stage, "PART", part)
        batches: list[list[str]] = []
        one = student(tmp_path / f"{name}.sqlite", AtOnce(batches))
        rows = list(probe(TASK, drafts, chosen, one, ProbeArgs()))
        assert [(row.draft_id, row.preference_id) for row in rows] == [
            (draft.draft_id, question.preference_id) for draft in drafts for question in chosen
        ]
        assert (one.usage.requests, one.usage.asked) == (9 * questions, 5 * questions)
        # Drafts of one text are asked for under the name of the last one, which moves them among the others.
        found.append((rows, sorted(batches)))
        again = student(tmp_path / f"{name}.sqlite", None)
        assert list(probe(TASK, drafts, chosen, again, ProbeArgs())) == rows
    assert found[0] == found[1]


def test_racing_makes_some_of_the_same_rows_and_with_the_whole_share_all_of_them(tmp_path):
    drafts, chosen = made(12, 10)
    every = list(probe(TASK, drafts, chosen, student(tmp_path / "full.sqlite", AtOnce()), ProbeArgs()))
    for share, count in ((1.0, 120), (0.5, 60)):
        batches: list[list[str]] = []
        path = tmp_path / f"{share}.sqlite"
        racing = ProbeArgs(budget="racing", racing={"first": 3, "step": 2, "share": share})
        rows = probe_racing(TASK, drafts, chosen, student(path, AtOnce(batches)), racing, 0.25, 1)
        assert len(rows) == count and len(set(rows)) == count
        assert [row for row in every if row in rows] == rows
        asked = [prompt for batch in batches for prompt in batch]
        assert len(set(asked)) == len(asked)
        # The second time all answers are there: no engine, and the same rows.
        assert probe_racing(TASK, drafts, chosen, student(path, None), racing, 0.25, 1) == rows


def test_scores_are_those_of_the_rows():
    outcomes = {"q0-a": "correct correct wrong unparsed", "q1-a": "wrong wrong wrong wrong"}
    rows = [
        Probe(draft, f"p{i}", "sums", "s", "", "", outcome)
        for draft, of_draft in outcomes.items()
        for i, outcome in enumerate(of_draft.split())
    ]
    tally = Tally()
    assert list(tally.counted(rows)) == rows
    assert tally.readings.outcomes() == {"correct": 2, "wrong": 5, "unparsed": 1}
    first, second = tally.scores(made(2, 1)[0])
    assert (first.draft_id, first.question_id, first.task, first.student) == ("q0-a", "q0", "sums", "s")
    assert (first.score, first.n, first.unparsed) == (0.5, 4, 1)
    assert (second.score, second.n, second.unparsed) == (0.0, 4, 0)
    assert (first.readable, first.right_when_readable, first.cut_off) == (0.75, 2 / 3, 0)
    assert 0 < first.low < 0.5 < first.high < 1


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "PART", 400)

    def peak(count):
        drafts, chosen = made(count // 40, 40)
        one = student(tmp_path / f"{count}.sqlite", AtOnce())
        file, tally = tmp_path / f"{count}.jsonl", Tally()
        tracemalloc.start()
        write_rows(file, tally.counted(probe(TASK, drafts, chosen, one, ProbeArgs())))
        assert len(tally.scores(drafts)) == len(drafts)
        deque(iter_rows(file, Probe), maxlen=0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    small = peak(800)
    # Scores are kept, 40 probes each. The rows alone would take 8 MB.
    assert peak(8000) < 1.5 * small + 500_000
    tracemalloc.start()
    read_rows(tmp_path / "8000.jsonl", Probe)
    assert tracemalloc.get_traced_memory()[1] > 4 * small
    tracemalloc.stop()
