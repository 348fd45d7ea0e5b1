"""What moves a teacher: its DPO over real pairs, by rate, epochs, beta and the weight of the `sft` term.

axolotl preprocess benchmarks/teacher_rate/collect.yaml && python benchmarks/teacher_rate/run.py

TRL's own trainer, with what Axolotl hands to it: an adapter in float32 on weights in bfloat16, in batches of 16. Each
cell of the grid goes into `results.json` as it is done, the most telling ones first; started again, the rest is made.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DPOConfig, DPOTrainer

from arte_plugin.config.arte import ArteArgs
from arte_plugin.data.tasks import Task, load_task
from arte_plugin.language.answers import judge
from arte_plugin.language.rendering import Renderer
from arte_plugin.rows import PreferencePair, read_rows, wilson
from arte_plugin.strategies.pairs import render_pair

FOLDER = Path(__file__).parent
CONFIG, RESULTS = FOLDER / "collect.yaml", FOLDER / "results.json"

#: Questions a task whose pairs are held out, and unseen ones a task that the teacher answers greedily.
HELD_OUT, UNSEEN = 12, 10
BATCH, RANK = 16, 16
#: Trained pairs that are weighed too.
SEEN = 12
NEW_TOKENS = 96


@dataclass(frozen=True)
class Cell:
    """One training."""

    rate: float
    epochs: int
    beta: float = 0.1
    #: Weight of the `sft` term, the mean cross-entropy of the chosen reply's tokens (`dpo_loss_weights`).
    sft: float = 0.0


#: In the order of what they tell. The last ones are around the recipe that the first ones led to.
CELLS = (
    Cell(2e-4, 3), Cell(5e-6, 3), Cell(5e-4, 3), Cell(5e-5, 3), Cell(1e-4, 3),
    Cell(2e-4, 1), Cell(2e-4, 3, sft=0.2), Cell(2e-4, 3, beta=0.3),
)  # fmt: skip


class Sweep:
    """The pairs, the unseen questions and the untouched teacher."""

    def __init__(self) -> None:
        self.cfg: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
        self.args = ArteArgs.model_validate(self.cfg["arte"])
        self.folder = Path(self.cfg["output_dir"])
        self.tasks = [load_task(task, self.args.seed) for task in self.args.tasks]
        self.tokenizer = AutoTokenizer.from_pretrained(self.cfg["base_model"])
        self.renderer = Renderer(self.tokenizer, self.args.teacher.prompt_style)
        pairs = read_rows(self.folder / "arte/04-pair/pairs.jsonl", PreferencePair)
        self.held_out, self.train = split(pairs, self.args.seed)
        self.seen = random.Random(self.args.seed).sample(self.train, SEEN)
        self.unseen = [(task, one) for task in self.tasks for one in task.test[:UNSEEN]]

    def cell(self, cell: Cell, before: Mapping[str, Any]) -> dict[str, Any]:
        """Train, and say what came of it beside the untouched teacher."""
        started = time.monotonic()
        set_seed(self.args.seed)
        model = self.load(torch.bfloat16)
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(
                output_dir=str(self.folder / "trainer"), learning_rate=cell.rate, num_train_epochs=cell.epochs,
                beta=cell.beta, per_device_train_batch_size=1, gradient_accumulation_steps=BATCH,
                lr_scheduler_type="cosine", warmup_steps=0.1, bf16=True, use_cpu=True, max_length=1024,
                precompute_ref_log_probs=True, gradient_checkpointing=False, save_strategy="no", report_to=[],
                logging_steps=1, seed=self.args.seed, disable_tqdm=True,
                **({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, cell.sft]} if cell.sft else {}),
            ),
            train_dataset=Dataset.from_list([render_pair(asdict(pair), self.tokenizer, "auto") for pair in self.train]),
            processing_class=self.tokenizer,
            peft_config=LoraConfig(
                r=RANK, lora_alpha=RANK, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )  # fmt: skip
        trainer.train()
        trained = trainer.model
        seconds = time.monotonic() - started
        trained.float().eval()
        after = self.look(trained)
        return {
            **asdict(cell),
            "steps": trainer.state.global_step,
            "loss": [round(row["loss"], 4) for row in trainer.state.log_history if "loss" in row],
            "pairs": {"train": len(self.train), "held_out": len(self.held_out)},
            "held_out": moved(after["held_out"], before["held_out"]),
            "trained": moved(after["seen"], before["seen"]),
            "rationales": {
                "n": len(self.unseen),
                "changed": sum(a != b for a, b in zip(after["replies"], before["replies"], strict=True)),
                **{
                    when: {
                        "readable": sum(one != "unparsed" for one in outcomes),
                        "right": sum(one == "correct" for one in outcomes),
                    }
                    for when, outcomes in (("before", before["outcomes"]), ("after", after["outcomes"]))
                },
            },
            "update": relative_update(trained),
            "seconds": round(seconds),
        }  # fmt: skip

    def load(self, dtype: torch.dtype) -> Any:
        """The untouched teacher."""
        return AutoModelForCausalLM.from_pretrained(self.cfg["base_model"], dtype=dtype)

    def look(self, model: Any) -> dict[str, Any]:
        """In float32: how likely `model` finds the weighed pairs, and what it answers to the unseen questions."""
        with torch.no_grad():
            replies = self.replies(model)
            return {
                "held_out": [self.likelihoods(model, pair) for pair in self.held_out],
                "seen": [self.likelihoods(model, pair) for pair in self.seen],
                "replies": replies,
                "outcomes": [
                    judge(reply, one.target, task.args.answer)[1]
                    for reply, (task, one) in zip(replies, self.unseen, strict=True)
                ],
            }

    def likelihoods(self, model: Any, pair: PreferencePair) -> list[float]:
        """ln P of the chosen and of the rejected reply."""
        prompt = self.tokenizer(self.renderer.prompt(pair.prompt), add_special_tokens=False)["input_ids"]
        found = []
        for reply in (pair.chosen, pair.rejected):
            text = self.renderer.prompt(pair.prompt) + self.renderer.completion(reply)
            ids = torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]])
            new = ids[0, len(prompt) :]
            logits = model(input_ids=ids, logits_to_keep=len(new) + 1).logits[0, :-1].float()
            found.append(float(logits.log_softmax(-1).gather(1, new[:, None]).sum()))
        return found

    def replies(self, model: Any) -> list[str]:
        """Greedy rationales to the unseen questions, each task's in one batch."""
        found = []
        for task in self.tasks:
            texts = [self.renderer.prompt(solve(task, one.question)) for of, one in self.unseen if of is task]
            batch = self.tokenizer(
                texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
            )
            out = model.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False, use_cache=True)
            new = out[:, batch["input_ids"].shape[1] :]
            found += [cut(text) for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]
        return found


def solve(task: Task, question: str) -> str:
    """The plain prompt."""
    from arte_plugin.language.prompts import solve_prompt

    return solve_prompt(task.args.description, task.args.answer, question)


def cut(reply: str) -> str:
    """Up to where a rationale ends."""
    head, end, _ = reply.partition("</ans>")
    return (head + end).strip()


def split(pairs: Sequence[PreferencePair], seed: int) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Held-out pairs, and those to train on. Rationale pairs only: a question pair takes thrice the time."""
    held: set[str] = set()
    rationales = [pair for pair in pairs if pair.level == "rationale"]
    for task in dict.fromkeys(pair.task for pair in rationales):
        ids = sorted(pair.pair_id for pair in rationales if pair.task == task)
        held |= set(random.Random(f"{seed}/{task}/held-out").sample(ids, HELD_OUT))
    # A question has one pair.
    return (
        [pair for pair in rationales if pair.pair_id in held],
        [pair for pair in rationales if pair.pair_id not in held],
    )


def moved(after: Sequence[Sequence[float]], before: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Reward accuracy with Wilson's interval; mean changes of log-likelihoods in nats with their standard errors."""
    changes = [(c - c0, r - r0) for (c, r), (c0, r0) in zip(after, before, strict=True)]
    margins = [chosen - rejected for chosen, rejected in changes]
    right = sum(margin > 0 for margin in margins)
    low, high = wilson(right, len(margins))
    return {
        "n": len(margins), "right": right, "accuracy": right / len(margins), "low": low, "high": high,
        "margin": mean_and_error(margins),
        "chosen": mean_and_error([chosen for chosen, _ in changes]),
        "rejected": mean_and_error([rejected for _, rejected in changes]),
    }  # fmt: skip


def mean_and_error(values: Sequence[float]) -> list[float]:
    """The mean and its standard error."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return [round(mean, 4), round(math.sqrt(variance / len(values)), 4)]


def relative_update(model: Any) -> float:
    """|ΔW| / |W| over the adapted matrices."""
    moved_, whole = 0.0, 0.0
    for module in adapted(model):
        moved_ += float(module.get_delta_weight("default").float().norm() ** 2)
        whole += float(module.base_layer.weight.float().norm() ** 2)
    return math.sqrt(moved_ / whole)


def adapted(model: Any) -> Iterator[Any]:
    """The layers that the adapter lies on."""
    return (module for module in model.modules() if hasattr(module, "base_layer"))


def main() -> None:
    """Make the cells that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, help="make no more than so many")
    wanted = parser.parse_args().cells
    sweep = Sweep()
    reference = sweep.folder / "before.json"
    if reference.is_file():
        before = json.loads(reference.read_text())
    else:
        before = sweep.look(sweep.load(torch.float32).eval())
        reference.write_text(json.dumps(before))
    made = 0
    for cell in CELLS:
        done = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
        if any(all(row[key] == value for key, value in asdict(cell).items()) for row in done):
            continue
        if wanted is not None and made == wanted:
            break
        row = sweep.cell(cell, before)
        RESULTS.write_text(json.dumps([*done, row], indent=1) + "\n")
        made += 1
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
