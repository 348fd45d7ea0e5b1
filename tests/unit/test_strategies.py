"""What the student and the teacher are trained on, token by token."""

import pickle
from types import SimpleNamespace

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from arte_plugin.errors import ConfigError, DataError
from arte_plugin.rows import PreferencePair
from arte_plugin.strategies import tailored
from arte_plugin.strategies.pairs import preference_pairs
from tests.dpo_tokens import as_trained_on
from tests.tiny import BOS, END, EOS, tiny_model

PAIR = PreferencePair("p", "rationale", "t", "1 + 1?", "It is <ans>2</ans>", "It is <ans>3</ans>", 1, 0, "a", "b")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """By name: chat and plain, with and without a BOS that the tokenizer itself puts in front (as Llama's do)."""
    from tokenizers.processors import TemplateProcessing

    made = {}
    for style in ("chat", "plain"):
        folder = tiny_model(tmp_path_factory.mktemp(style), chat_template=style == "chat")
        made[style] = AutoTokenizer.from_pretrained(folder)
        with_bos = AutoTokenizer.from_pretrained(folder)
        with_bos.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, with_bos.bos_token_id)]
        )
        if style == "chat":
            with_bos.chat_template = "{{ bos_token }}" + with_bos.chat_template
        made[f"{style}_bos"] = with_bos
    assert made["plain_bos"]("a")["input_ids"][0] == made["plain_bos"].bos_token_id
    return made


NAMES = ["chat", "chat_bos", "plain", "plain_bos"]


@pytest.mark.parametrize("name", NAMES)
def test_the_student_learns_the_rationale_and_its_one_end(tokenizers, name):
    tokenizer = tokenizers[name]
    strategy = tailored.load(tokenizer, {"sequence_len": 4}, {"input_format": None})
    row = strategy.tokenize_prompt({"prompt": "1 + 1?", "rationale": "It is <ans>2</ans>", "task": "t"})
    ids, labels = row["input_ids"], row["labels"]
    assert len(ids) == len(labels) == len(row["attention_mask"])
    start = next(i for i, label in enumerate(labels) if label != -100)
    assert labels[start:] == ids[start:]
    end = END if name.startswith("chat") else EOS
    space = "" if name.startswith("chat") else " "
    assert tokenizer.decode(ids[start:]) == f"{space}It is <ans>2</ans>{end}"
    assert tokenizer.decode(ids[:start]) == strategy.renderer.prompt("1 + 1?")
    assert ids.count(tokenizer.bos_token_id) == ("bos" in name)
    assert labels.count(tokenizer.convert_tokens_to_ids(end)) == 1


def test_the_prompt_style_comes_with_the_entry(tokenizers):
    load = tailored.load
    assert load(tokenizers["chat"], {"sequence_len": 9}).renderer.style == "chat"
    assert load(tokenizers["chat"], {"sequence_len": 9}, {"input_format": "plain"}).renderer.style == "plain"
    with pytest.raises(ConfigError, match="it must be one of auto, plain, chat"):
        load(tokenizers["chat"], {"sequence_len": 9}, {"input_format": "chatml"})


def test_a_row_of_something_else_is_refused(tokenizers):
    strategy = tailored.load(tokenizers["chat"], {"sequence_len": 9})
    with pytest.raises(DataError, match="needs text in `prompt` and in `rationale`; found text"):
        strategy.tokenize_prompt({"text": "hello"})


def test_axolotl_finds_the_tailored_strategy_and_maps_it(tokenizers):
    from axolotl.prompt_strategies import load
    from axolotl.prompt_tokenizers import PromptTokenizingStrategy
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.datasets import SFTDataset

    entry = SFTDataset(path="x", type="arte_plugin.strategies.tailored", input_format="plain").model_dump()
    cfg = DictDefault(sequence_len=9)
    strategy = load(entry["type"], tokenizers["chat"], cfg, DictDefault(entry))
    assert isinstance(strategy, PromptTokenizingStrategy)
    assert strategy.renderer.style == "plain"
    # Axolotl maps it over the rows in several processes.
    assert pickle.dumps(strategy)


def render(tokenizer, style="auto"):
    """As Axolotl 0.19 does: resolve the exported name, then hand over the tokenizer and map."""
    from axolotl.prompt_strategies.dpo import load
    from axolotl.utils.data.rl import _map_dataset
    from axolotl.utils.dict import DictDefault
    from datasets import Dataset

    cfg = DictDefault(arte={"teacher": {"prompt_style": style}}, dataset_num_proc=None)
    transform, map_kwargs = load("arte_plugin.preference_pairs", cfg, dataset_idx=0)
    pickle.dumps(transform)
    mapped = _map_dataset(cfg, Dataset.from_list([vars(PAIR)]), transform, tokenizer, **map_kwargs)
    assert sorted(mapped.column_names) == ["chosen", "prompt", "rejected", "rendered"]
    return mapped


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_has_one_bos_at_most_and_one_end(tokenizers, name):
    tokenizer = tokenizers[name]
    [row] = as_trained_on(render(tokenizer), tokenizer)
    prompt_ids, chosen_ids = row["prompt_ids"], row["chosen_ids"]
    assert (prompt_ids + chosen_ids).count(tokenizer.bos_token_id) == ("bos" in name)
    assert chosen_ids.count(tokenizer.eos_token_id) == 1
    assert chosen_ids[-1] == tokenizer.eos_token_id
    style = "chat" if name.startswith("chat") else "plain"
    renderer = tailored.Renderer(tokenizer, style)
    whole = renderer.prompt(PAIR.prompt) + renderer.completion(PAIR.chosen)
    assert prompt_ids + chosen_ids == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_rows_of_another_data_set_beside_the_pairs_are_left_to_trl(tokenizers):
    tokenizer = tokenizers["plain_bos"]
    rows = render(tokenizer).to_list()
    others = [{"prompt": "Ask.", "chosen": " Yes", "rejected": " No", "rendered": None}]
    ours, theirs = as_trained_on(Dataset.from_list(rows + others), tokenizer)
    assert ours["prompt_ids"] == tokenizer(rows[0]["prompt"], add_special_tokens=False)["input_ids"]
    assert theirs["prompt_ids"] == tokenizer("Ask.")["input_ids"]
    assert theirs["chosen_ids"][-1] == tokenizer.eos_token_id


def test_the_teachers_style_is_the_configs(tokenizers):
    assert render(tokenizers["chat"], "plain")[0]["prompt"] == PAIR.prompt
    transform, _ = preference_pairs(SimpleNamespace(get=lambda key: None))
    assert transform(vars(PAIR), tokenizer=tokenizers["chat"])["prompt"].startswith("<|im_start|>user")
