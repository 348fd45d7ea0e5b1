"""SmolLM2's greedy replies on vLLM beside those of our own engine: prompts as tokens and as text."""

import json
import time
from pathlib import Path

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.engines.base import Request
from arte_plugin.engines.own_server import OwnServer
from arte_plugin.language import prompts
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from tests.vllm.differences import NEAR_TIE, differences, told

QUESTIONS = Path(__file__).parents[2] / "yaml_examples/data/kind_of_thing.jsonl"
#: Examples, and questions behind each.
EXAMPLES, SIBLINGS = 6, 10


@pytest.fixture(scope="module")
def make_model(student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replies")

    def make(engine, name):
        task = {"name": "kind", "description": "d", "questions": {"path": str(QUESTIONS)}, "answer": "text"}
        block = {"student": {"base_model": str(student), "dtype": "float32"}, "tasks": [task], "engine": engine}
        args = ArteArgs.model_validate(block)
        cfg = {"output_dir": str(folder), "attn_implementation": "sdpa"}
        return student_model(args.student, args, cfg, RequestCache(folder / f"{name}.sqlite"))

    return make


@pytest.fixture(scope="module")
def here(make_model):
    """Our own engine, and what it was asked and said."""
    model = make_model({}, "here")
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    requests = []
    for number, example in enumerate(rows[:EXAMPLES]):
        shown = f"Think of what a {example['question'].split()[-2]} is for. <ans>{example['answer']}</ans>"
        for row in rows[EXAMPLES + number * SIBLINGS :][:SIBLINGS]:
            text = prompts.solve_prompt(
                "Say which kind of thing a word names: fruit, animal, tool, instrument, vehicle or colour.", "text",
                row["question"], [(example["question"], shown)],
            )  # fmt: skip
            requests.append(
                Request(
                    model.renderer.prompt(text), f"{number}", 48, 0.0, 0, stop=prompts.RATIONALE_STOP, answer="text"
                )
            )  # fmt: skip
    said = model.ask(requests, "here")
    yield model, requests, said
    model.close()


@pytest.fixture(scope="module")
def url(serve, student, tmp_path_factory):
    """One vLLM for all of these tests."""
    log = tmp_path_factory.mktemp("server") / "vllm.log"
    own = OwnServer("student", serve, {"model": str(student)}, log, 900.0)
    own.ensure()
    try:
        while not own.is_ready():
            time.sleep(0.5)
        yield own.base_url
    finally:
        own.stop()


@pytest.mark.parametrize("as_prompts", ["tokens", "text"])
def test_greedy_replies_are_those_of_our_engine(as_prompts, here, make_model, url, student, note):
    model, requests, said = here
    engine = {
        "kind": "server",
        "api": "vllm",
        "prompts": as_prompts,
        "student": {"base_urls": [url]},
        "concurrency": 16,
    }
    served = make_model(engine, as_prompts)
    there = served.ask(requests, as_prompts)
    margins = differences(model.engine().model, model.renderer.tokenizer, requests, said, there)
    note(f"SmolLM2, prompts as {as_prompts}", told(margins, len(requests)))
    assert len({one.text for one in said}) > EXAMPLES
    assert all(margin < NEAR_TIE for margin in margins)
    assert [one.prompt_tokens for one in there] == [one.prompt_tokens for one in said]
    # A reply that was cut off says so.
    assert {one.finish for one in there} == {one.finish for one in said} == {"stop", "length"}
