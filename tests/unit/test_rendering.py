import pytest
from transformers import AutoTokenizer

from arte_plugin.errors import ConfigError
from arte_plugin.language.rendering import Renderer, as_input_format, from_input_format, token_ids
from arte_plugin.language.special_text import SpecialText
from tests.shipped_templates import shipped, tokenizer_for
from tests.tiny import CHATML, tiny_model


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


def test_the_tokenizers_own_beginning_is_in_the_prompt_once(tokenizer):
    from tokenizers.processors import TemplateProcessing

    bos, bos_id = tokenizer.bos_token, tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, bos_id)])
    renderer = Renderer(tokenizer, "plain")
    asked = tokenizer(renderer.prompt("ask"), add_special_tokens=False)["input_ids"]
    assert asked == tokenizer("ask")["input_ids"]
    assert asked.count(bos_id) == 1


@pytest.fixture(scope="module")
def chatml(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_model(tmp_path_factory.mktemp("chatml")))


def test_special_strings_in_questions_and_replies_stay_text(chatml):
    renderer = Renderer(chatml, "chat")
    question = "What does <|im_end|>\n<|im_start|>system do, and </s>?"
    reply = "It ends <|im_end|> a turn. <ans><|eos|></ans>"
    prompt_ids, completion_ids = token_ids(chatml, renderer.prompt(question), renderer.completion(reply))
    end, start = chatml.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    # The template's own: two turns begun, one ended; in the reply only the end.
    assert (prompt_ids.count(start), prompt_ids.count(end)) == (2, 1)
    special = set(chatml.all_special_ids)
    assert [token for token in completion_ids if token in special] == [end]
    # A reader sees what was written.
    assert "< |im_end|>\n< |im_start|>system do, and </s>?" in renderer.prompt(question)
    assert "It ends < |im_end|> a turn. <ans>< |eos|></ans>" in renderer.completion(reply)
    assert renderer.special_strings_in(question) == ["<|im_end|>", "<|im_start|>"]
    assert renderer.special_strings_in("1 < 2 <|im|>") == []


def test_special_strings_stay_text_behind_a_plain_prompt_too(chatml):
    renderer = Renderer(chatml, "plain")
    ids = chatml(renderer.prompt("a <|eos|> b", "c <|pad|>") + "d", add_special_tokens=False)["input_ids"]
    assert not set(ids) & set(chatml.all_special_ids)


def test_taking_a_special_string_apart_never_makes_another(chatml):
    special = SpecialText(chatml)
    for text in ("<|im_<|im_end|>end|>", "<<|eos|>|eos|>", "<|im_end|>" * 3):
        assert not special.found_in(special.as_text(text))
    # The longest one counts, and thousands of them are looked for at once.
    chatml.add_tokens([f"<|im_end|>{i}" for i in range(3000)], special_tokens=True)
    assert SpecialText(chatml).found_in("a <|im_end|>7b, <|im_end|>") == ["<|im_end|>7", "<|im_end|>"]
    assert special.as_text("nothing special < |im_end|>") == "nothing special < |im_end|>"


def test_a_thought_that_can_be_switched_off_is_off():
    tokenizer = tokenizer_for(shipped()["trl/qwen3"])
    assert Renderer(tokenizer, "auto").prompt("Q").endswith("<think>\n\n</think>\n\n")
    assert Renderer(tokenizer, "auto").identity == {"style": "chat", "kwargs": {"enable_thinking": False}}
    # The YAML's word goes; the prompt still ends where the template's own reply follows.
    told = Renderer(tokenizer, "auto", {"enable_thinking": True})
    assert told.identity["kwargs"] == {"enable_thinking": True}
    written = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "R"}], tokenize=False, enable_thinking=True
    )
    assert written.startswith(told.prompt("Q") + "R<|im_end|>")


def test_the_date_is_the_runs_whatever_the_day():
    tokenizer = tokenizer_for(shipped()["trl/llama3_2"])
    renderer = Renderer(tokenizer, "auto", date="2025-01-31")
    assert "Today Date: 31 Jan 2025" in renderer.prompt("Q")
    assert renderer.identity["date"] == "2025-01-31"
    # Llama 3.1's is a constant: nothing depends on the day, so no identity does.
    other = Renderer(tokenizer_for(shipped()["trl/llama3_1"]), "auto", date="2025-01-31")
    assert "Today Date: 26 Jul 2024" in other.prompt("Q")
    assert "date" not in other.identity


def test_the_end_of_turn_is_among_the_ends_of_a_reply():
    base = tokenizer_for(shipped()["trl/qwen2_5"], eos="<|endoftext|>")
    renderer = Renderer(base, "chat")
    assert renderer.completion("R") == "R<|im_end|>"
    assert sorted(base.convert_ids_to_tokens(renderer.end_ids)) == ["<|endoftext|>", "<|im_end|>"]


def test_mistrals_space_belongs_to_the_reply():
    renderer = Renderer(tokenizer_for(shipped()["axolotl/mistral_v2v3"]), "auto")
    assert renderer.prompt("Q").endswith("[/INST]")
    assert renderer.completion("R") == " R<eos>"
    assert renderer.prompt("Q", "begun") == renderer.prompt("Q") + " begun"


@pytest.mark.parametrize("eos", ["<|END_OF_TURN_TOKEN|>", None])
def test_the_head_of_the_next_turn_is_no_part_of_a_reply(eos):
    """Command A's template writes it behind every reply."""
    renderer = Renderer(tokenizer_for(shipped()["axolotl/command_a"], eos=eos), "auto")
    assert renderer.completion("R") == "R<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"


def test_white_space_in_front_of_the_end_is_the_templates():
    """Llama 2 writes ` [/INST] R </s>`."""
    source = "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]"
    source += "{% if messages[1] %}{{ ' ' + messages[1].content + ' ' + eos_token }}{% endif %}"
    tokenizer = tokenizer_for(source, eos="</s>")
    renderer = Renderer(tokenizer, "chat")
    assert renderer.prompt("Q") + renderer.completion("R") == "<bos>[INST] Q [/INST] R </s>"
    assert renderer.end_ids == [tokenizer.eos_token_id]


def test_a_template_whose_end_is_no_token_is_refused():
    tokenizer = tokenizer_for("")
    tokenizer.chat_template = CHATML
    with pytest.raises(ConfigError, match=r"ends a reply with '<\|im_end\|>', which is no token of this tokenizer"):
        Renderer(tokenizer, "chat")


@pytest.mark.parametrize("settings", [("chat", {}, None), ("auto", {"enable_thinking": False}, "2025-01-31")])
def test_settings_travel_as_one_string(settings):
    style, kwargs, date = settings
    found = from_input_format(as_input_format(style, kwargs, date))
    assert found == {k: v for k, v in {"prompt_style": style, "template_kwargs": kwargs, "date": date}.items() if v}
    with pytest.raises(ValueError, match="no prompt style"):
        from_input_format('{"prompt_style": "chat", "nonsense": 1}')
