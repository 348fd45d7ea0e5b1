"""Pairs as Axolotl's DPO trainer has them when it trains."""

from typing import Any


def as_trained_on(rows: Any, tokenizer: Any) -> Any:
    """The data set `rows`, tokenised by the trainer's own method; no model is made."""
    from axolotl.core.trainers.dpo.trainer import AxolotlDPOTrainer
    from trl import DPOConfig

    from arte_plugin.training import dpo_rows

    dpo_rows.install()
    trainer = object.__new__(AxolotlDPOTrainer)
    trainer._tokenizer = tokenizer
    return trainer._prepare_dataset(rows, tokenizer, DPOConfig(max_length=None, bf16=False, use_cpu=True), "train")
