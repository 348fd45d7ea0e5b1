"""`plugs.Asking` over the tiny model: what is asked is cached, counted, and the same on every rank."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Reply
from arte_plugin.errors import ConfigError
from arte_plugin.language import prompts
from arte_plugin.models.asking import ModelAsking
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Draft, PreferenceQuestion, Question
from arte_plugin.stages.probing import probe

TASK = Task(
    TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number"), [], [], [], 0
)
QUESTIONS = [Question(f"q{i}", "sums", f"What is {i} + {i}?", str(2 * i)) for i in range(3)]
DRAFTS = [
    Draft(f"q{i}-a", "sums", f"q{i}", f"{i} + 1?", "2", "a", "One more. <ans>2</ans>", "2", "", "") for i in (1, 2)
]
CHOSEN = [PreferenceQuestion(f"p{i}", "sums", f"{i} + {i}?", str(2 * i), None, None) for i in range(2)]
PROBE = ProbeArgs(max_new_tokens=12)


def tiny(folder: Path, cache: Path, name: str = "s", loads: list | None = None) -> Model:
    """The tiny model of `folder`, as a student or a teacher."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from arte_plugin.engines.transformers import TransformersEngine
    from arte_plugin.language.rendering import Renderer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def load():
        if loads is not None:
            loads.append(name)
        return TransformersEngine(AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval(), tokenizer)

    return Model(name, {"model": name}, Renderer(tokenizer, "plain"), load, RequestCache(cache), 4, 30.0)


def never() -> Model:
    raise AssertionError("nobody asked for the teacher")


def everything(asking: ModelAsking) -> list:
    """One call of each kind, to the student."""
    reply = Reply("Question: 1 + 1?\nAnswer: <ans>", "2</ans>", "a")
    return [
        asking.probes(TASK, [(draft, question) for draft in DRAFTS for question in CHOSEN]),
        asking.attempts(asking.student, TASK, QUESTIONS, samples=2, temperature=0.9),
        asking.likelihoods(asking.student, [reply], "likelihoods"),
        asking.texts(asking.student, ["Say something.", "Say something."], what="x", max_new_tokens=8, temperature=1.0),
    ]


def test_what_was_asked_is_not_asked_again_and_is_counted(folder, tmp_path):
    loads: list[str] = []
    one = tiny(folder, tmp_path / "c.sqlite", loads=loads)
    asking = ModelAsking([one], never, PROBE, 12, 7)
    first = everything(asking)
    # 4 probes, 3 × 3 attempts, a likelihood and 2 texts.
    assert (one.usage.requests, one.usage.asked, loads) == (16, 16, ["s"])
    assert everything(asking) == first and one.usage.asked == 16 and one.usage.requests == 32
    again = tiny(folder, tmp_path / "c.sqlite", loads=loads)
    assert everything(ModelAsking([again], never, PROBE, 12, 7)) == first
    assert (again.usage.asked, loads) == (0, ["s"])
    # Another seed: what is sampled is asked anew, and nothing else.
    other = ModelAsking([again], never, PROBE, 12, 8)
    second = everything(other)
    assert again.usage.asked == 6 + 2
    assert second[0] == first[0] and second[1] != first[1]
    assert [row for row in second[1] if row.sample == 0] == [row for row in first[1] if row.sample == 0]


def test_probes_are_those_of_stage_3(folder, tmp_path):
    one = tiny(folder, tmp_path / "c.sqlite")
    asking = ModelAsking([one], never, PROBE, 12, 7)
    cells = [(draft, question) for draft in DRAFTS for question in CHOSEN]
    found = asking.probes(TASK, cells)
    settings = ProbeArgs(max_new_tokens=12, min_readable=0)
    assert found == list(probe(TASK, DRAFTS, CHOSEN, one, settings))
    assert asking.probes(TASK, cells[3:] + cells[:1]) == found[3:] + found[:1]
    assert one.usage.asked == 4


def test_attempts_tell_what_was_asked_and_how_it_came_out(folder, tmp_path):
    one = tiny(folder, tmp_path / "c.sqlite")
    asking = ModelAsking([one], never, PROBE, 12, 7)
    found = asking.attempts(one, TASK, QUESTIONS, samples=2, temperature=0.9)
    assert [(row.question_id, row.sample) for row in found] == [(f"q{i}", k) for i in range(3) for k in range(3)]
    assert {row.prompt for row in found[:3]} == {
        one.renderer.prompt(prompts.solve_prompt("Add.", "number", "What is 0 + 0?"))
    }
    assert len({row.response for row in found[:3]}) == 3, "samples of one question differ"
    assert len({row.attempt_id for row in found}) == 9
    assert list(asking.attempted.values()) == found
    # Samples only: the same rows without the greedy ones. A shorter list: the same of what is in it.
    assert asking.attempts(one, TASK, QUESTIONS, samples=2, temperature=0.9, greedy=False) == [
        row for row in found if row.sample
    ]
    assert asking.attempts(one, TASK, QUESTIONS[2:], samples=1, temperature=0.9) == found[6:8]
    assert len(asking.attempted) == 9
    # Another temperature makes other rows of the samples.
    cooler = asking.attempts(one, TASK, QUESTIONS, samples=1, temperature=0.1)
    warmer = [row for row in found if row.sample < 2]
    same = [a.attempt_id == b.attempt_id for a, b in zip(cooler, warmer, strict=True)]
    assert same == [True, False] * 3


def test_samples_of_different_questions_are_drawn_apart(folder, tmp_path, monkeypatch):
    one = tiny(folder, tmp_path / "c.sqlite")
    asked = []
    ask = type(one).ask
    monkeypatch.setattr(
        type(one), "ask", lambda self, requests, what: asked.extend(requests) or ask(self, requests, what)
    )
    ModelAsking([one], never, PROBE, 12, 7).attempts(one, TASK, QUESTIONS, samples=2, greedy=False)
    assert len({request.seed for request in asked}) == len(asked) == 6


class Says:
    """Answers everything in one way."""

    def __init__(self, text):
        self.text = text

    def generate(self, batch, keep=None):
        return [Completion(self.text, "stop", 9, 9) for _ in batch]

    def report(self):
        return ""

    def close(self):
        pass


def test_attempts_are_held_against_the_target(folder, tmp_path):
    one = tiny(folder, tmp_path / "c.sqlite")
    for number, (text, outcomes) in enumerate((
        ("So it is <ans>2</ans>", ["wrong", "correct", "wrong"]), ("I do not know.", ["unparsed"] * 3),
    )):  # fmt: skip
        one.load, one.cache = lambda text=text: Says(text), RequestCache(tmp_path / f"{number}.sqlite")
        one.close()
        found = ModelAsking([one], never, PROBE, 12, 7).attempts(one, TASK, QUESTIONS)
        assert [row.outcome for row in found] == outcomes
        assert {row.answer for row in found} == {"2" if number == 0 else ""}


def test_one_model_at_a_time_and_the_teacher_only_when_it_is_asked(folder, tmp_path):
    loads: list[str] = []
    student, teacher = (tiny(folder, tmp_path / "c.sqlite", name, loads) for name in ("s", "t"))
    asking = ModelAsking([student], lambda: teacher, PROBE, 20, 7)
    assert asking.models == [student]
    asking.attempts(student, TASK, QUESTIONS[:1])
    assert student._engine is not None
    [of_teacher] = asking.attempts(asking.teacher, TASK, QUESTIONS[:1])
    assert student._engine is None and teacher._engine is not None
    assert asking.models == [student, teacher] and loads == ["s", "t"]
    assert of_teacher.who == "t"
    # It may write as much as a teacher may.
    assert student.usage.new_tokens <= 12 < teacher.usage.new_tokens <= 20


def test_a_server_tells_no_likelihoods_and_none_is_started(folder, tmp_path):
    loads: list[str] = []
    one = tiny(folder, tmp_path / "c.sqlite", loads=loads)
    one.served = True
    with pytest.raises(ConfigError, match="ifd: s is run by a server"):
        ModelAsking([one], never, PROBE, 12, 7).likelihoods(one, [Reply("a", "b", "a")], "ifd")
    assert loads == []


def test_likelihoods_are_of_the_reply(folder, tmp_path):
    one = tiny(folder, tmp_path / "c.sqlite")
    [found] = ModelAsking([one], never, PROBE, 12, 7).likelihoods(one, [Reply("1 + 1 = ", "2</ans>", "a")], "x")
    assert found.tokens == 7 and -7 * math.log(300) * 3 < found.log_probability < 0


def test_chance_is_decided_by_the_seed_and_the_parts(folder, tmp_path):
    one = tiny(folder, tmp_path / "c.sqlite")
    drawn = [ModelAsking([one], never, PROBE, 12, seed).rng(*parts).random() for seed, parts in (
        (7, ("a", "b")), (7, ("a", "b")), (7, ("a", "c")), (8, ("a", "b")),
    )]  # fmt: skip
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3


def test_every_rank_sees_the_same_and_asks_its_share(folder, tmp_path):
    alone = tiny(folder, tmp_path / "alone.sqlite")
    rows = repr(everything(ModelAsking([alone], never, PROBE, 12, 7)))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, folder, tmp_path / "together.sqlite"],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [json.loads(rank.communicate(timeout=300)[0]) for rank in ranks]
    assert [one["rows"] for one in told] == [rows, rows]
    assert sum(one["asked"] for one in told) == 16 and all(0 < one["asked"] < 16 for one in told)


RANK = """
import json, sys
from pathlib import Path
from tests.unit.test_asking import PROBE, ModelAsking, everything, never, tiny

one = tiny(Path(sys.argv[1]), Path(sys.argv[2]))
rows = repr(everything(ModelAsking([one], never, PROBE, 12, 7)))
print(json.dumps({"rows": rows, "asked": one.usage.asked}))
"""
