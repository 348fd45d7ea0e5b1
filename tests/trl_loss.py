"""What Axolotl's own DPO trainer computes for a few pairs, and the log-probabilities that it should be made of.

Policy and reference are two tiny models with other weights; each reply's log-probability is worked out beside the
trainer, one reply at a time and without padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arte_plugin.language.rendering import token_ids
from arte_plugin.training import dpo_rows
from tests.tiny import tiny_model


@dataclass(frozen=True)
class Found:
    """Of one pair, each for chosen and rejected: log-probability under policy and reference, and tokens."""

    chosen: float
    rejected: float
    chosen_reference: float
    rejected_reference: float
    chosen_tokens: int
    rejected_tokens: int

    @property
    def chosen_ratio(self) -> float:
        """log(policy / reference) of what is chosen."""
        return self.chosen - self.chosen_reference

    @property
    def rejected_ratio(self) -> float:
        """log(policy / reference) of what is rejected."""
        return self.rejected - self.rejected_reference

    @property
    def margin(self) -> float:
        """What DPO's loss is a function of, without its beta."""
        return self.chosen_ratio - self.rejected_ratio


def trainer(folder: Path, pairs: Sequence[tuple[str, str, str]], beta: float, **keys: Any) -> Any:
    """Axolotl's DPO trainer of (prompt, chosen, rejected) as text, all in one batch; `keys` as in the YAML."""
    from axolotl.core.trainers.dpo import AxolotlDPOTrainer, DPOStrategy
    from axolotl.core.trainers.dpo.args import AxolotlDPOConfig
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.enums import RLType
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dpo_rows.install()
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(tiny_model(folder / name, seed=seed))
        for name, seed in (("policy", 0), ("reference", 1))
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    columns = ("prompt", "chosen", "rejected")
    rows = Dataset.from_list([dict(zip(columns, pair, strict=True)) | {dpo_rows.MARK: True} for pair in pairs])
    arguments = AxolotlDPOConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=len(pairs), use_cpu=True, report_to=[],
        bf16=False, fp16=False, remove_unused_columns=False, gradient_checkpointing=False, beta=beta,
        **DPOStrategy.set_training_args_kwargs(DictDefault({"rl": RLType.DPO, "sequence_len": 512, **keys})),
    )  # fmt: skip
    return AxolotlDPOTrainer(policy, reference, args=arguments, train_dataset=rows, processing_class=tokenizer)


def losses(made: Any) -> tuple[float, list[Found]]:
    """The trainer's loss of its one batch, and what was found of each of its pairs, in the order of the rows."""
    import torch

    rows = [made.train_dataset[place] for place in range(len(made.train_dataset))]
    batch = made._prepare_inputs(made.data_collator(rows))
    with torch.no_grad():
        loss = float(made.compute_loss(made.model.eval(), batch))
    models, tokenizer = (made.model, made.ref_model), made.processing_class

    def weigh(model: Any, prompt: str, text: str) -> tuple[float, int]:
        first, second = token_ids(tokenizer, prompt, text)
        with torch.no_grad():
            logits = model.eval()(torch.tensor([[*first, *second]])).logits[0, len(first) - 1 : -1].double()
        chosen = logits.log_softmax(-1).gather(1, torch.tensor(second)[:, None])
        return float(chosen.sum()), len(second)

    found = []
    for row in rows:
        (chosen, n), (rejected, m) = (weigh(models[0], row["prompt"], row[side]) for side in ("chosen", "rejected"))
        (before, _), (behind, _) = (weigh(models[1], row["prompt"], row[side]) for side in ("chosen", "rejected"))
        found.append(Found(chosen, rejected, before, behind, n, m))
    return loss, found
