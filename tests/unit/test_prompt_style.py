"""What `prompt_style: auto` comes to: a chat template alone makes no chat model."""

import json

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import ConfigError
from arte_plugin.models.prompt_style import found_style, settle
from tests.shipped_templates import shipped, tokenizer_for
from tests.tiny import tiny_model

TASK = {"name": "sums", "description": "Add.", "questions": {"path": "none.jsonl"}}


def style_of(name, template="trl/qwen2_5", eos="<|im_end|>", style="auto"):
    tokenizer = tokenizer_for(shipped()[template] if template else "", eos=eos)
    if not template:
        tokenizer.chat_template = None
    return found_style(tokenizer, name, StudentArgs(base_model=name, prompt_style=style))


@pytest.mark.parametrize(
    ("name", "eos", "style"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", "<|im_end|>", "chat"),
        ("Qwen/Qwen2.5-1.5B", "<|endoftext|>", "plain"),
        ("Qwen/Qwen3-1.7B-Base", "<|im_end|>", "plain"),
        ("Qwen/Qwen3-1.7B", "<|im_end|>", "chat"),
        # Its tokenizer has another EOS; the name tells.
        ("google/gemma-1.1-2b-it", "<eos>", "chat"),
        ("org/gemma-3-270m-pt", "<|im_end|>", "plain"),
        ("./outputs/student", "<|endoftext|>", "plain"),
    ],
)
def test_a_base_model_that_brings_a_template_is_asked_plainly(name, eos, style):
    found, reason = style_of(name, eos=eos)
    assert found == style
    assert reason


def test_an_end_of_several_tokens_is_over_with_the_last_one():
    assert style_of("CohereLabs/c4ai-command-r7b", "trl/cohere2", "<|END_OF_TURN_TOKEN|>")[0] == "chat"
    assert style_of("CohereLabs/c4ai-command-r7b", "trl/cohere2", "<eos>")[0] == "plain"


def test_the_checkpoints_own_ends_count(tmp_path):
    name = tmp_path / "student"
    name.mkdir()
    tokenizer = tokenizer_for(shipped()["trl/qwen2_5"], eos="<|endoftext|>")
    settings = StudentArgs(base_model=str(name))
    assert found_style(tokenizer, str(name), settings)[0] == "plain"
    ends = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id]
    (name / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    assert found_style(tokenizer, str(name), settings)[0] == "chat"


def test_who_says_so_is_asked_so():
    assert style_of("Qwen/Qwen2.5-1.5B", eos="<|endoftext|>", style="chat")[0] == "chat"
    assert style_of("Qwen/Qwen2.5-1.5B-Instruct", style="plain")[0] == "plain"
    assert style_of("Qwen/Qwen2.5-1.5B-Instruct", template=None, eos=None) == ("plain", "it has no chat template")


@pytest.mark.parametrize("key", ["chat_template", "chat_template_jinja"])
def test_a_student_is_trained_behind_the_template_that_it_is_probed_with(key):
    with pytest.raises(ValueError, match=f"`sft.{key}` would train the student behind other prompts"):
        StudentArgs(base_model="x", sft={key: "chatml"})
    assert StudentArgs(base_model="x", sft={key: "chatml"}, prompt_style="plain").sft == {key: "chatml"}


def test_settling_a_run(tmp_path):
    teacher = tiny_model(tmp_path / "teacher")
    base = tiny_model(tmp_path / "base", chat_template=False)
    args = ArteArgs.model_validate({"student": {"base_model": str(base)}, "tasks": [TASK], "date": "2025-01-31"})
    asked = settle({"base_model": str(teacher), "tokenizer_config": str(teacher)}, args)
    assert [(one.role, one.renderer.style) for one in asked] == [("teacher", "chat"), ("student", "plain")]
    assert (args.teacher.prompt_style, args.students[0].prompt_style) == ("chat", "plain")


def test_a_template_that_cannot_be_used_stops_the_run_before_any_model_is_loaded(tmp_path):
    teacher = tiny_model(tmp_path / "teacher")
    student = tmp_path / "student"
    tokenizer_for(shipped()["trl/deepseekv3"], eos="<｜end▁of▁sentence｜>").save_pretrained(student)
    args = ArteArgs.model_validate({"student": {"base_model": str(student)}, "tasks": [TASK]})
    with pytest.raises(ConfigError, match="opens a thought and knows no switch for it"):
        settle({"base_model": str(teacher), "tokenizer_config": str(teacher)}, args)


@pytest.mark.parametrize(
    ("template", "switch", "arte", "refused"),
    [
        ("trl/qwen3", "enable_thinking", {}, "`student.chat_template_kwargs` switches thoughts on"),
        # It opens the thought, and knows a switch for it.
        ("trl/qwen3_5_think", "enable_thinking", {}, "`student.chat_template_kwargs` switches thoughts on"),
        ("trl/qwen3", "enable_thinking", {"respondent": True}, "`preference_set.respondents` switches thoughts on"),
        ("trl/qwen3", "enable_thinking", {"teacher": True}, "`teacher.chat_template_kwargs` switches thoughts on"),
        ("trl/qwen3", "thinking", {}, ""),
        ("trl/qwen3", "enable_thinking", {"value": False}, ""),
        ("trl/qwen3", "enable_thinking", {"prompt_style": "plain"}, ""),
    ],
)
def test_thoughts_are_refused_where_nobody_would_take_them_away(tmp_path, template, switch, arte, refused):
    plain, thinker = tiny_model(tmp_path / "plain"), tmp_path / "thinker"
    tokenizer_for(shipped()[template], eos="<|im_end|>").save_pretrained(thinker)
    (thinker / "config.json").write_text((plain / "config.json").read_text())
    told = {"prompt_style": arte.get("prompt_style", "chat"), "chat_template_kwargs": {switch: arte.get("value", True)}}
    content = {"student": {"base_model": str(plain)}, "tasks": [TASK]}
    teacher = plain
    if "respondent" in arte:
        content["preference_set"] = {"respondents": [{"base_model": str(thinker), "shots": [0], **told}]}
    elif "teacher" in arte:
        teacher, content["teacher"] = thinker, {"reasoning": False, **told}
    else:
        content["student"] = {"base_model": str(thinker), **told}
    args = ArteArgs.model_validate(content)
    cfg = {"base_model": str(teacher), "tokenizer_config": str(teacher)}
    if refused:
        with pytest.raises(ConfigError, match=refused):
            settle(cfg, args)
    else:
        assert len(settle(cfg, args)) == 2


@pytest.mark.parametrize("value", ["2025-01-31", __import__("datetime").date(2025, 1, 31)])
def test_a_date_as_yaml_reads_it(value):
    block = {"student": {"base_model": "x"}, "tasks": [TASK]}
    assert ArteArgs.model_validate({**block, "date": value}).date == "2025-01-31"
    with pytest.raises(ValueError, match="a date is written YYYY-MM-DD"):
        ArteArgs.model_validate({**block, "date": "31 Jan 2025"})
