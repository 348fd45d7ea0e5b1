"""Stage 5 from the outside: hand the pairs to Axolotl's own DPO run, so that it trains on these rows and can go on."""

import math
import os
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from arte_plugin import ranks
from arte_plugin.config.entries import SENTINEL
from arte_plugin.models.placement import stay_on_cpu
from arte_plugin.run.manifest import hash_of
from arte_plugin.run.run import Run
from arte_plugin.training import checkpoints, dpo_rows


def prepare_training(cfg: Any, run: Run, inputs: Mapping[str, Any], resume: bool = True) -> None:
    """Point the sentinel data set at the pairs, and `resume` an interrupted training of the same inputs."""
    stay_on_cpu(cfg)
    dpo_rows.install()
    cfg["seed"] = run.cfg["seed"]
    # As this run asks the teacher, so the pairs are rendered.
    arte = cfg["arte"]
    arte["date"] = run.args.date
    arte["teacher"] = {
        **(arte.get("teacher") or {}),
        **run.args.teacher.model_dump(include={"prompt_style", "chat_template_kwargs", "reasoning"}),
    }
    for entry in cfg["datasets"]:
        if entry["path"] == SENTINEL:
            entry["path"] = str(run.pairs_file.absolute())
    cfg["dataset_prepared_path"] = str(run.out.file("pair", prepared_folder(inputs, run.teacher_tokenizer())))
    # Stage 4 has counted and dropped over-long pairs; one that shows up here must not vanish silently.
    cfg["excess_length_strategy"] = "raise"
    if resume:
        if run.not_aligned and ranks.is_first():
            # Somebody else has trained there, so the checkpoints are theirs. In this order, or a kill would hide it.
            checkpoints.forget(run.out.path)
            run.out.manifest.forget("align")
        checkpoints.resume(cfg, run.output_dir, run.out.path, hash_of(inputs), trusted=not run.not_aligned)


def prepared_folder(inputs: Mapping[str, Any], tokenizer: str) -> str:
    """The name of the folder for these pairs as text and tokens; `inputs` are the stage's.

    Axolotl's cache of prepared data hashes the config, and of that neither what lies in the file nor how ARTE renders
    it: other pairs, or the same in another style, would be missed under the old path. How they are trained on has no
    say.
    """
    rows = {key: value for key, value in inputs.items() if key != "training"}
    return f"prepared-{hash_of({**rows, 'tokenizer': tokenizer})[:12]}"


def describe(trainer_state: Any) -> str:
    """The finished training for the table: steps, and means over the first and the last tenth of what was logged.

    One entry of the log is a few pairs, and says nothing; so where there are few, a tenth is up to five of them.
    """
    entries = [entry for entry in getattr(trainer_state, "log_history", []) if "loss" in entry]
    if not entries:
        return ""
    span = max(1, math.ceil(len(entries) / 10), min(5, len(entries) // 2))

    def mean(key: str, some: Sequence[Mapping[str, Any]]) -> float:
        return fmean(float(entry[key]) for entry in some)

    first, last = entries[:span], entries[-span:]
    said = f"{trainer_state.global_step} steps, loss {mean('loss', first):.3f} to {mean('loss', last):.3f}"
    if all("rewards/margins" in entry and "rewards/accuracies" in entry for entry in last):
        accuracy = 100 * mean("rewards/accuracies", last)
        said += f", reward margin {mean('rewards/margins', last):+.3f}, chosen preferred {accuracy:.0f} %"
    return f"{said} (means of the {'first and ' if span < len(entries) else ''}last {span} of {len(entries)} logged)"


def use_all_cores() -> None:
    """Undo `accelerate launch`'s OMP_NUM_THREADS=1 where one process has a CPU to itself."""
    import torch

    launched = os.environ.get("OMP_NUM_THREADS") == "1" and "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and ranks.world_size() == 1 and not torch.accelerator.is_available():
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
