"""A model small enough to be made on the spot: random weights, but loaded by `from_pretrained` like any other."""

from pathlib import Path

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOS, EOS, PAD, START, END = SPECIALS = ("<|bos|>", "<|eos|>", "<|pad|>", "<|im_start|>", "<|im_end|>")


def tiny_model(folder: Path, chat_template: bool = True, seed: int = 0) -> Path:
    """Write a two-layer Llama (float32, 2048 positions) and a byte-level tokenizer to `folder`, as one HF directory.

    With a chat template the end-of-sequence token is `<|im_end|>`, without it `<|eos|>`. The same `seed` gives the same
    weights; torch's own random state is left as it was.
    """
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    end = END if chat_template else EOS
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=end,
        pad_token=PAD,
        additional_special_tokens=[token for token in SPECIALS if token not in (BOS, end, PAD)],
        chat_template=CHATML if chat_template else None,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        # Random weights this large make greedy text that changes from token to token and with every prompt.
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(torch.float32)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
