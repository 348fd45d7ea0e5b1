import pytest
from transformers import AutoTokenizer

from arte_plugin.rendering import Renderer
from tests.tiny import tiny_model


@pytest.fixture(scope="module", params=[True, False], ids=["chat", "plain"])
def tokenizer(request, tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_model(tmp_path_factory.mktemp("model"), chat_template=request.param))


def test_auto_follows_the_chat_template(tokenizer):
    assert Renderer(tokenizer, "auto").style == ("chat" if tokenizer.chat_template else "plain")
    assert Renderer(tokenizer, "plain").style == "plain"


def test_completion_ends_in_exactly_one_end_token(tokenizer):
    renderer = Renderer(tokenizer, "auto")
    ids = tokenizer(renderer.prompt("ask") + renderer.completion(" answer "), add_special_tokens=False)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert ids[-2] != tokenizer.eos_token_id


def test_prefill_begins_the_reply(tokenizer):
    renderer = Renderer(tokenizer, "auto")
    assert renderer.prompt("ask", "<Question_4>").endswith("<Question_4>")
    assert renderer.prompt("ask", "<Question_4>").startswith(renderer.prompt("ask"))


def test_training_prompt_leaves_the_tokenizers_own_beginning_to_the_library(tokenizer):
    from tokenizers.processors import TemplateProcessing

    bos, bos_id = tokenizer.bos_token, tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, bos_id)])
    renderer = Renderer(tokenizer, "plain")
    assert renderer.prompt("ask").startswith(bos)
    generated_from = tokenizer(renderer.prompt("ask"), add_special_tokens=False)["input_ids"]
    trained_on = tokenizer(renderer.training_prompt("ask"))["input_ids"]
    assert generated_from == trained_on
    assert trained_on.count(bos_id) == 1
