"""On a GPU an engine is given all that a rank has to answer, and nothing of what it has answered is lost."""

import pytest

from arte_plugin.engines.base import Completion, Request
from arte_plugin.models import loading, placement
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from tests.plain import PlainRenderer


class Answering:
    """Notes what it is given at a time, and fails where it is told to."""

    def __init__(self, fails_at: int | None = None):
        self.batches: list[list[str]] = []
        self.fails_at = fails_at

    def generate(self, batch, keep):
        self.batches.append([one.prompt for one in batch])
        answers = []
        for place, one in enumerate(batch):
            if place == self.fails_at:
                raise RuntimeError("out of memory")
            answers.append(Completion(one.prompt.upper(), "stop", 1, 1))
            keep(place, answers[-1])
        return answers

    def report(self):
        return ""


def asked(count: int) -> list[Request]:
    return [Request(f"{i:03}", f"{i // 4:03}", 8, 0.0, 0) for i in range(count)]


def model(path, engine, whole: bool) -> Model:
    return Model("m", {}, PlainRenderer(), lambda: engine, RequestCache(path / "c.sqlite"), 16, 10.0, whole=whole)


def test_the_engine_is_given_all_at_once(tmp_path):
    engine = Answering()
    answers = model(tmp_path, engine, True).ask(asked(100), "questions")
    assert [one.text for one in answers] == [f"{i:03}" for i in range(100)]
    assert [len(batch) for batch in engine.batches] == [100]
    cut = Answering()
    model(tmp_path / "cpu", cut, False).ask(asked(100), "questions")
    assert max(len(batch) for batch in cut.batches) == 16


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_ranks_have_a_share_each(tmp_path, monkeypatch, rank):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "3")
    engine = Answering()
    share = model(tmp_path, engine, True)
    for _ in share._answer_share([asked(120)], _Line()):
        pass
    assert [len(batch) for batch in engine.batches] == [40]
    assert engine.batches[0][0] == f"{40 * rank:03}"


class _Line:
    def pass_over(self, count): ...
    def begin(self): ...
    def update(self, count): ...


def test_what_was_answered_before_a_failure_is_not_asked_again(tmp_path):
    engine = Answering(fails_at=71)
    with pytest.raises(RuntimeError, match="out of memory"):
        model(tmp_path, engine, True).ask(asked(100), "questions")
    again = Answering()
    answers = model(tmp_path, again, True).ask(asked(100), "questions")
    assert [one.text for one in answers] == [f"{i:03}" for i in range(100)]
    assert [len(batch) for batch in again.batches] == [29]


def test_a_gpu_makes_it_so_unless_the_yaml_says_a_number(monkeypatch):
    for device, yaml, expected in (
        ("cpu", None, (16, False)),
        ("cuda:0", None, (loading.LIKELIHOODS_AT_A_TIME, True)),
        ("cuda:0", 8, (8, False)),
        ("cpu", 8, (8, False)),
    ):
        monkeypatch.setattr(placement, "device", lambda device=device: device)
        assert tuple(loading.batches(yaml, 16).values()) == expected
