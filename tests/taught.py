"""A tiny model that was taught to write tagged questions and rationales: teacher and student of the fast e2e tests.

Two layers, some 400,000 parameters, a minute of training on the demo teacher's own kind of chats. Its form is right
most of the time and its answers are often wrong, so there are drafts to drop, preferences and ties. Its sizes are
multiples of 64, which 4-bit weights on a CPU must be.

It is kept in `tests/models/taught`: another machine's training would end in other weights, and what the tests look at,
such as ties, hangs on those. `OMP_NUM_THREADS=1 python -m tests.taught` makes it anew; see `pythonpath` for what it
imports.
"""

import random
from pathlib import Path

from tests.tiny import CHATML, END, PAD, START

TASK = "boolean_expressions"
TAUGHT = Path(__file__).parent / "models/taught"


def taught_model(folder: Path, steps: int = 250, seed: int = 0) -> Path:
    """Train and write the model to `folder`, a Hugging Face directory."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from generators import TASKS
    from make_training_data import question_chat, rationale_chat

    rng = random.Random(seed)
    generator = TASKS[TASK]
    chats = [(question_chat if rng.random() < 0.4 else rationale_chat)(generator, rng) for _ in range(1500)]

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in (PAD, START, END)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator((text for chat in chats for text in chat), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    rows = []
    for prompt, reply in chats:
        turns = [{"role": "user", "content": prompt}]
        head = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        head_ids = tokenizer(head, add_special_tokens=False)["input_ids"]
        rows.append((head_ids, tokenizer(reply + END, add_special_tokens=False)["input_ids"]))
    for _ in range(steps):
        batch = rng.sample(rows, 12)
        width = max(len(head) + len(reply) for head, reply in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        labels = torch.full((len(batch), width), -100)
        for i, (head, reply) in enumerate(batch):
            ids[i, : len(head) + len(reply)] = torch.tensor(head + reply)
            labels[i, len(head) : len(head) + len(reply)] = torch.tensor(reply)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    taught_model(TAUGHT)
