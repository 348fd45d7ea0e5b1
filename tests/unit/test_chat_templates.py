"""All chat templates that the installed TRL and Axolotl ship: asked with, trained on and written by the template."""

from datetime import datetime

import pytest
from datasets import Dataset

from arte_plugin.errors import ConfigError
from arte_plugin.language.rendering import Renderer
from arte_plugin.strategies.pairs import render_pair
from arte_plugin.strategies.tailored import tokenize
from tests.dpo_tokens import as_trained_on
from tests.shipped_templates import shipped, tokenizer_for

QUESTION = (
    "Decide.\nPut the final answer between <ans> and </ans>.\n\nQuestion: 1 + 1?\nAnswer: Let's think step by step."
)
REPLY = "One and one\n\nmake two. <ans>2</ans>"
DATE = "2024-07-26"

#: By the reason that is given; every other template must work.
REFUSED = {
    # They open a thought that they know no switch for.
    "trl/deepseek_r1_distill": "opens a thought",
    "trl/deepseek_r1_distill_training": "opens a thought",
    "trl/deepseekv3": "opens a thought",
    "trl/deepseekv3_training": "opens a thought",
}

#: What must work, whatever else is refused. For DeepSeek that is Axolotl's; TRL's has R1's open thought.
MUST_WORK = [
    "trl/llama3_1", "trl/llama3_2", "trl/qwen2_5", "trl/qwen3", "trl/qwen3_5_think", "trl/qwen3_5_nothink",
    "axolotl/deepseek_v2", "axolotl/deepseek_v3", "trl/gemma", "trl/gemma3", "axolotl/gemma3", "axolotl/mistral_v1",
    "axolotl/mistral_v2v3", "axolotl/mistral_v3_tekken", "trl/phi3", "trl/phi3_5", "axolotl/phi_4", "axolotl/chatml",
    "trl/gptoss",
]  # fmt: skip


def written_by_the_template(renderer, question, reply):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    if renderer.template._in_parts:
        messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    clock = datetime(2024, 7, 26).strftime
    return renderer.tokenizer.apply_chat_template(
        messages, tokenize=False, strftime_now=clock, **renderer.template.kwargs
    )


@pytest.mark.parametrize("name", shipped())
def test_what_is_asked_trained_and_written_by_the_template_agree(name):
    tokenizer = tokenizer_for(shipped()[name])
    if reason := REFUSED.get(name):
        with pytest.raises(ConfigError, match=reason):
            Renderer(tokenizer, "chat", date=DATE)
        return
    renderer = Renderer(tokenizer, "chat", date=DATE)
    prompt, completion = renderer.prompt(QUESTION), renderer.completion(REPLY)
    # The template's own text: whole, but for what it writes behind the end of the turn.
    whole = written_by_the_template(renderer, QUESTION, REPLY)
    if renderer.template.forgets_empty_thought:
        empty = prompt[len(whole.partition(REPLY)[0]) :]
        assert empty.strip().endswith(("</think>", "<channel|>")), empty
        whole = whole.replace(REPLY, empty + REPLY)
    shown, _, rest = whole.rpartition(REPLY)
    assert (prompt + completion).startswith(shown + REPLY)
    ending = (prompt + completion).removeprefix(shown + REPLY)
    assert ending == renderer.end_of_reply
    assert rest.startswith(ending) or (not rest.strip() and ending == tokenizer.eos_token), (rest, ending)
    # A reply follows on the prompt at once: neither a thought nor a channel stands between.
    assert completion.lstrip().startswith(REPLY)
    # As tokens: exactly one BOS where the template writes one, an end that stops generation, and nothing behind it.
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    prompt_ids, completion_ids = tokenize(renderer, QUESTION, REPLY)
    assert prompt_ids == asked
    assert asked.count(tokenizer.bos_token_id) == whole.count("<bos>") <= 1
    assert completion_ids[-1] in renderer.end_ids
    assert not set(completion_ids[:-2]) & set(renderer.end_ids)


@pytest.mark.parametrize("name", sorted(set(shipped()) - set(REFUSED)))
def test_dpo_trains_on_the_very_same_tokens(name):
    tokenizer = tokenizer_for(shipped()[name])
    pair = {"prompt": QUESTION, "chosen": REPLY, "rejected": "No. <ans>3</ans>"}
    [row] = as_trained_on(Dataset.from_list([render_pair(pair, tokenizer, "auto", date=DATE)]), tokenizer)
    renderer = Renderer(tokenizer, "chat", date=DATE)
    prompt_ids, chosen_ids = tokenize(renderer, QUESTION, REPLY)
    assert (
        row["prompt_ids"] == prompt_ids == tokenizer(renderer.prompt(QUESTION), add_special_tokens=False)["input_ids"]
    )
    assert row["chosen_ids"] == chosen_ids
    assert row["rejected_ids"] == tokenize(renderer, QUESTION, "No. <ans>3</ans>")[1]


def test_what_must_work_is_shipped_and_not_refused():
    assert set(MUST_WORK) <= set(shipped()) - set(REFUSED)
    assert len(shipped()) > 60
