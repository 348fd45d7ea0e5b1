"""Teachers that think before they write: their thoughts are read by nobody, and trained on by nobody."""

import pytest
from datasets import Dataset

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion
from arte_plugin.errors import ConfigError, TeacherError
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.model import Model
from arte_plugin.models.prompt_style import settle
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Question
from arte_plugin.stages.elicit import elicit
from arte_plugin.strategies.pairs import preference_pairs
from tests.dpo_tokens import as_trained_on
from tests.shipped_templates import shipped, tokenizer_for
from tests.tiny import tiny_model

#: What comes before a reply, by template, and the text that ends it.
THOUGHTS = {
    "trl/qwen3": ("<think>\n{}\n</think>\n\n", "</think>"),
    "trl/qwen3_5_think": ("{}\n</think>\n\n", "</think>"),
    "trl/deepseekv3": ("{}\n</think>\n\n", "</think>"),
    "trl/gptoss": (
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|channel|>final<|message|>",
    ),
}

MUSING = (
    "Five of them: <Question_4><input>3 + 3</input><target>7</target></Question_4>, no, that is 6. The answer goes "
    "between <ans> and </ans>, so <ans>7</ans>?"
)


TASK = {"name": "sums", "description": "Add.", "questions": {"path": "none.jsonl"}}


class Thinks:
    """Thinks aloud, with a wrong draft of everything, before it writes; some thoughts never end."""

    def __init__(self, thought: str):
        self._thought = thought
        self.asked = []

    def generate(self, batch, keep=None):
        self.asked += batch
        return [Completion(self._reply(one), "stop", 1, 1) for one in batch]

    def _reply(self, request):
        if "new questions" in request.prompt:
            return self._thought.format(MUSING) + "<Question_4><input>3 + 3</input><target>6</target></Question_4>"
        if "Guess" in request.prompt:
            return self._thought.partition("{}")[0] + MUSING
        return self._thought.format(MUSING) + "Three and three make six. <ans>6</ans>"

    def report(self):
        return ""

    def close(self):
        pass


@pytest.fixture
def task():
    args = TaskArgs(
        name="sums", description="Add.", questions={"path": "none"}, answer="number",
        techniques={"steps": "Small steps.", "guess": "Guess."},
    )  # fmt: skip
    seeds = [Question(f"s{i}", "sums", f"{i} + {i}", str(2 * i)) for i in range(3)]
    return Task(args, seeds, [], [], 0)


@pytest.fixture(params=THOUGHTS)
def thinker(request, tmp_path):
    written, end = THOUGHTS[request.param]
    renderer = Renderer(tokenizer_for(shipped()[request.param]), "chat", date="2025-01-31", thought_tokens=50)
    engine = Thinks(written)
    model = Model("t", {}, renderer, lambda: engine, RequestCache(tmp_path / "requests.sqlite"), 4, 10.0)
    return model, engine, end


def test_drafts_are_read_behind_the_thought(thinker, task):
    teacher, engine, end = thinker
    drafts, dropped, _ = elicit(task, teacher, ElicitArgs(questions=1, max_calls=1), 1)
    assert [(draft.question, draft.target) for draft in drafts] == [("3 + 3", "6")]
    assert [(draft.technique, draft.rationale) for draft in drafts] == [
        ("steps", "Three and three make six. <ans>6</ans>")
    ]
    assert [row.reason for row in dropped if row.reason != "surplus"] == ["rationale_thought_unfinished"]
    for request in engine.asked:
        assert (request.thought.end, request.thought.max_tokens) == (end, 50)
        # The thought is begun, or is for the model to begin.
        assert not request.prompt.rstrip().endswith(end)


def test_a_reply_that_names_the_end_of_thoughts_is_read_from_the_first_one(thinker):
    teacher, _, end = thinker
    assert teacher.renderer.said(f"hm{end}Five. <ans>5</ans>") == "Five. <ans>5</ans>"
    assert teacher.renderer.said(f"hm{end}Five, behind my {end} <ans>5</ans>").startswith("Five")


def test_where_no_thought_ends_the_remedy_is_told(thinker, task):
    teacher, engine, _ = thinker
    engine._reply = lambda request: "Hmm. <Question_4><input>3 + 3</input><target>7</target></Question_4>"
    with pytest.raises(TeacherError, match=r"question_thought_unfinished\)\. Raise `arte\.teacher\.reasoning_tokens`"):
        elicit(task, teacher, ElicitArgs(questions=1, max_calls=1), 1)


def test_the_teacher_is_trained_on_what_its_template_writes_without_the_thought(thinker):
    teacher, _, _ = thinker
    tokenizer = teacher.renderer.tokenizer
    cfg = {"arte": {"teacher": {"prompt_style": "chat", "reasoning": True}, "date": "2025-01-31"}}
    transform, _ = preference_pairs(cfg)
    pair = transform({"prompt": "Ask.", "chosen": "Yes", "rejected": "No"}, tokenizer=tokenizer)
    [row] = as_trained_on(Dataset.from_list([pair]), tokenizer)
    messages = [{"role": "user", "content": "Ask."}, {"role": "assistant", "content": "Yes"}]
    written = tokenizer.apply_chat_template(
        messages, tokenize=False, strftime_now=teacher.renderer.template._clock, **teacher.renderer.template.kwargs
    )
    assert written.strip() == tokenizer.decode(row["prompt_ids"] + row["chosen_ids"])
    assert pair["prompt"] == teacher.renderer.prompt("Ask.")
    assert tokenizer.decode(row["chosen_ids"]) == "Yes" + teacher.renderer.end_of_reply


def settled(tmp_path, template, eos, **arte):
    teacher = tmp_path / "teacher"
    tokenizer_for(shipped()[template], eos=eos).save_pretrained(teacher)
    tiny_model(tmp_path / "config")
    (tmp_path / "config" / "config.json").rename(teacher / "config.json")
    args = ArteArgs.model_validate({"student": {"base_model": str(tmp_path / "config")}, "tasks": [TASK], **arte})
    settle({"base_model": str(teacher), "tokenizer_config": str(teacher)}, args)
    return args.teacher


@pytest.mark.parametrize(
    ("template", "eos", "teacher", "thinks"),
    [
        ("trl/deepseekv3", "<｜end▁of▁sentence｜>", {}, True),
        ("trl/qwen3_5_think", "<|im_end|>", {}, False),
        ("trl/qwen3_5_think", "<|im_end|>", {"chat_template_kwargs": {"enable_thinking": True}}, True),
        ("trl/qwen3_5_think", "<|im_end|>", {"reasoning": True}, True),
        ("trl/gptoss", "<|return|>", {}, False),
    ],
)
def test_auto_is_on_where_a_thought_cannot_be_switched_off(tmp_path, template, eos, teacher, thinks):
    assert settled(tmp_path, template, eos, teacher=teacher).reasoning is thinks


@pytest.mark.parametrize(("api", "template", "eos", "fine"), [
    ("openai", "trl/gptoss", "<|return|>", False),
    ("transformers", "trl/gptoss", "<|return|>", False),
    ("vllm", "trl/gptoss", "<|return|>", True),
    # `</think>` is a token of its own there, but not one that is left out.
    ("openai", "trl/qwen3", "<|im_end|>", True),
])  # fmt: skip
def test_a_server_must_not_leave_out_what_ends_a_thought(tmp_path, api, template, eos, fine):
    engine = {"kind": "server", "api": api, "teacher": {"base_urls": ["http://here:1/v1"], "model": "t"}}
    arte = {"teacher": {"reasoning": True}, "engine": engine}
    if fine:
        assert settled(tmp_path, template, eos, **arte).reasoning is True
    else:
        with pytest.raises(ConfigError, match=r"leaves <\|channel\|>final<\|message\|> out of what it sends"):
            settled(tmp_path, template, eos, **arte)


def test_what_does_not_go_together_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"`elicit\.prefill` begins its reply"):
        settled(tmp_path, "trl/deepseekv3", "<｜end▁of▁sentence｜>", elicit={"prefill": True})
    both = {"teacher": {"reasoning": True}, "elicit": {"prefill": True}}
    with pytest.raises(ValueError, match=r"`elicit.prefill` begins .* one of them"):
        ArteArgs.model_validate({"student": {"base_model": "x"}, "tasks": [TASK], **both})
    with pytest.raises(ConfigError, match="knows no thoughts"):
        Renderer(tokenizer_for(shipped()["trl/llama3"]), "chat", thought_tokens=50)
