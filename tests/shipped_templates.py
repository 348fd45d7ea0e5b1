"""The chat templates that the installed TRL and Axolotl ship, and a tokenizer with the tokens that one of them needs.

Nothing of them is copied: they are read where they were installed.
"""

import re
from functools import cache
from importlib.resources import files

_PLACES = {"trl": "chat_templates", "axolotl": "utils/chat_templates/templates"}

#: Whatever looks like a token of its own in a template: `<|im_end|>`, `<think>`, `[/INST]`, `[|endofturn|]`, `[gMASK]`.
_LOOKS_SPECIAL = re.compile(
    r"<[|｜][^\s<>]{1,40}[|｜]>|<\|[a-z]+>|<[a-z]+\|>|</?(?:think|start_of_turn|end_of_turn|image_soft_token|sop|bos|eos)>"
    r"|</?(?:s|image|end_of_utterance)>|\[/?[A-Z_]{3,30}\]|\[\|[a-z]+\|\]|\[gMASK\]"
)


@cache
def shipped() -> dict[str, str]:
    """The source of each template by `package/name`."""
    return {
        f"{package}/{file.name.removesuffix('.jinja')}": file.read_text(encoding="utf-8")
        for package, place in _PLACES.items()
        for file in sorted((files(package) / place).iterdir(), key=lambda file: file.name)
        if file.name.endswith(".jinja")
    }


def tokenizer_for(source: str, eos: str | None = None, adds_bos: bool = True):
    """A byte-level tokenizer with the special tokens of `source`, which is its chat template.

    Its EOS is `eos`, or `<eos>`; like Llama's it puts its BOS in front of what it is given, unless told otherwise.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    eos = eos or "<eos>"
    tokens = dict.fromkeys(["<bos>", eos, *_LOOKS_SPECIAL.findall(source)])
    thoughts = ("<think>", "</think>")
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    # As in Qwen3's and DeepSeek's tokenizers: tokens of their own, but not special ones.
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in thoughts])
    if adds_bos:
        backend.post_processor = TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token=eos, pad_token=eos, chat_template=source,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
