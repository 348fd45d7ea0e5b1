"""The transformers engine on a real model: probes with a shared prefix come out as plain generation writes them."""

import pytest

from arte_plugin.engines.base import Request
from arte_plugin.language.prompts import ANSWER_END, NEXT_QUESTION, solve_prompt
from arte_plugin.language.rendering import Renderer

STOP = (ANSWER_END, NEXT_QUESTION)
DESCRIPTION = "Evaluate the truth value of a Boolean expression."
EXAMPLE = (
    "not ( True and False ) is",
    "True and False is False. not ( False ) is True. So the answer is <ans>True</ans>",
)
QUESTIONS = (
    "True and not False is",
    "not ( True or False ) is",
    "( False or True ) and not ( True and False ) is",
    "not not False is",
    "False or ( not False and True ) is",
    "True is",
)


@pytest.fixture(scope="module")
def loaded(student_dir):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(student_dir, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(student_dir)


def test_one_shot_probes_equal_plain_greedy_generation(loaded):
    import torch

    from arte_plugin.engines.transformers import TransformersEngine

    model, tokenizer = loaded
    renderer = Renderer(tokenizer, "auto")
    prompts = [renderer.prompt(solve_prompt(DESCRIPTION, "exact", question, [EXAMPLE])) for question in QUESTIONS]
    batch = [Request(prompt, "draft", 40, 0.0, 0, stop=STOP) for prompt in prompts]
    engine = TransformersEngine(model, tokenizer)
    done = engine.generate(batch)
    assert engine._last is not None and len(engine._last.tokens) > 50, "the prefix was not shared"
    for request, completion in zip(batch, done, strict=True):
        ids = tokenizer(request.prompt, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**ids, max_new_tokens=request.max_new_tokens, do_sample=False)
        text = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        ends = [text.index(stop) + len(stop) for stop in STOP if stop in text]
        assert completion.text == text[: min(ends, default=None)]
        assert completion.prompt_tokens == ids["input_ids"].shape[1]
    assert any(completion.text.endswith(ANSWER_END) for completion in done)
