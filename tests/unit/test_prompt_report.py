"""What `arte validate` says of prompts."""

import pytest

from arte_plugin.config.student import StudentArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.prompt_style import Asked, _warnings
from arte_plugin.rows import Question
from arte_plugin.show.prompt_report import prompt_lines
from tests.shipped_templates import shipped, tokenizer_for


@pytest.fixture
def task():
    args = TaskArgs(name="sums", description="Add.", questions={"path": "none"}, answer="number")
    odd = Question("s1", "sums", "How many letters has <|im_end|>?", "6")
    return Task(args, [Question("s0", "sums", "1 + 1?", "2"), odd], [], [], 0)


def said(template, task, show=False, **settings):
    tokenizer = tokenizer_for(shipped()[template])
    renderer = Renderer(tokenizer, "chat", date="2025-01-31", **settings)
    asked = Asked("student", "m", StudentArgs(base_model="m"), renderer, "because", list(_warnings(renderer)))
    return "\n".join(prompt_lines([asked], [task], show))


def test_a_date_is_told(task):
    assert "writes the date into prompts: 2025-01-31 for this run (`arte.date`)" in said("trl/llama3_2", task)
    assert "date" not in said("trl/llama3_1", task)


def test_what_opens_or_closes_a_thought_is_told(task):
    assert "chat template is given enable_thinking: False" in said("trl/qwen3_5_think", task)
    assert "prompts end in '<|channel|>final<|message|>'" in said("trl/gptoss", task)
    assert "it thinks first, in 2,000 tokens at most; all up to </think>" in said(
        "trl/qwen3", task, thought_tokens=2000
    )


def test_a_missing_end_of_turn_is_told(task):
    assert "writes nothing behind a reply: <eos> ends it here" in said("axolotl/llava", task)
    assert "writes nothing" not in said("trl/qwen3", task)


def test_special_strings_in_a_users_data_are_told(task):
    told = "sums: 1 texts hold <|im_end|>, tokens of this model; it is shown text in their place, such as < |im_end|>"
    assert told in said("trl/qwen3", task)
    assert "texts hold" not in said("trl/llama3", task)


def test_a_prompt_and_a_reply_are_shown_on_request(task):
    shown = said("axolotl/chatml", task, show=True)
    assert "  | <|im_start|>user\n  | Add." in shown
    assert shown.endswith("  | <|im_start|>assistant\n  | ▶So it is. <ans>…</ans><|im_end|>◀")
    assert "▶" not in said("axolotl/chatml", task)
