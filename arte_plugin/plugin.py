"""The Axolotl plugin: hooks only, each one a call into the run."""

import logging
import os
import time
from typing import Any

from axolotl.integrations.base import BasePlugin

from arte_plugin import last_word, ranks
from arte_plugin.config.check import check_config, raw_config
from arte_plugin.errors import shown_errors
from arte_plugin.loop import loop, rounds
from arte_plugin.models import memory, paged_memory, placement
from arte_plugin.ranks import LOGGER, peers
from arte_plugin.run import merging
from arte_plugin.run.run import Run
from arte_plugin.show.summary import summary
from arte_plugin.training import adapters, align, sharding, teacher_recipe

LOG = logging.getLogger(LOGGER)

#: Set by `arte align`: the last stage to run under `axolotl train`.
UNTIL = "ARTE_UNTIL"


class ArtePlugin(BasePlugin):
    """Runs stages 1 to 4 before Axolotl loads the data, and 6 to 8 once the teacher is trained and saved."""

    def __init__(self) -> None:
        super().__init__()
        self._run: Run | None = None
        self._align_inputs: dict[str, Any] = {}
        self._started = 0.0
        self._trainer_state: Any = None
        self._trained = 0
        self._meter: memory.Meter | None = None
        self._loaded: dict[str, Any] = {}

    def get_input_args(self) -> str:
        """The config class that Axolotl validates with."""
        return "arte_plugin.config.arte.ArteConfig"

    def register(self, cfg: Any) -> None:
        """Refuse a wrong config with one clear message, and fill in what it leaves out of the teacher's training.

        Axolotl calls this before it validates, with what the command line says already in `cfg`.
        """
        with shown_errors():
            check_config(cfg)
            # Ray's workers come here again, with a config that is validated and has it already.
            if "command_line" not in cfg["arte"]:
                cfg["arte"]["command_line"] = rounds.from_command_line(cfg)
            added = teacher_recipe.fill_in(cfg, ranks.world_size())
            teacher_recipe.check_it_trains(_sharded_as_written(cfg))
            if added and ranks.is_first():
                LOG.info(teacher_recipe.as_line(added))
        peers.no_look_without_devices()

    def get_training_args(self, cfg: Any) -> dict[str, Any]:
        """Let the Trainer use bf16 on a CPU, which Axolotl has no key for."""
        import torch

        return {"use_cpu": True} if cfg.get("bfloat16") and not torch.accelerator.is_available() else {}

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:
        """Stages 1 to 4, then hand the pairs to Axolotl; with an aligned teacher at hand, go on behind the training."""
        with shown_errors():
            align.use_all_cores()
            placement.take_own_gpu()
            if not ranks.is_first():
                LOG.setLevel(logging.WARNING)
            run = self._run = loop.begin(cfg)
            loop.until(run, "pair")
            if run.aligned() and not preprocess:
                self._after_align(run)
                # The run is complete; Axolotl would now train the teacher once more.
                raise SystemExit(0)
            if run.source is not None:
                print(f"The teacher comes aligned from {run.source.name}: there are no pairs to prepare.", flush=True)
                raise SystemExit(0)
            self._align_inputs = run.align_inputs()
            align.prepare_training(cfg, run, self._align_inputs, resume=not preprocess)
            merging.hand_over(cfg, run)
            self._started = time.monotonic()
            self._meter = memory.Meter()

    def pre_model_load(self, cfg: Any) -> None:
        """Seed the adapter's initial weights: Axolotl 0.19 does so for no config."""
        from transformers import set_seed

        if cfg.get("seed") is not None:
            set_seed(cfg["seed"])

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        """Train the adapter in float32; in a later round, from that of the round before, with it as the reference."""
        if self._run is not None:
            adapters.in_float32(trainer, cfg)
        if self._run is not None and self._run.trains_on:
            with shown_errors():
                adapters.train_on(trainer, self._run.trains_on)

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
        """Keep the trainer's log, not the trainer, which holds the model."""
        from transformers import TrainerCallback

        from arte_plugin.models.loaded import describe_model

        if self._run is not None and not self._loaded:
            self._loaded = describe_model(trainer.model)
        plugin = self

        class KeepState(TrainerCallback):
            """`train()` gives the trainer a new state, so it is taken at the end."""

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                plugin._trainer_state = state

        return [KeepState()]

    def post_train(self, cfg: Any, model: Any) -> None:
        """Called after training and again after saving; does no work, an error here would cost the weights."""
        self._trained += 1

    def post_train_unload(self, cfg: Any) -> None:
        """Stages 6 to 8. Axolotl 0.20 and later call this after a failed training too: saving must have been seen."""
        if self._run is None or self._trained < 2:
            return
        with shown_errors():
            # The trained teacher, which is loaded again to generate, and what its optimizer has kept.
            paged_memory.give_back()
            memory.release()
            seconds = time.monotonic() - self._started
            used = self._meter.stop() if self._meter else {}
            memory.check_given_back("align", used)
            note = align.describe(self._trainer_state)
            self._run.record_aligned(self._align_inputs, seconds, note, used, self._loaded)
            self._after_align(self._run)

    def _after_align(self, run: Run) -> None:
        if os.environ.get(UNTIL) != "align":
            loop.after_align(run)
            if ranks.is_first() and run.args.rounds > 1 and run.args.round == 1:
                rounds.go_on(run)
        if ranks.is_first():
            print(summary(run.out.path, run.args), flush=True)
        last_word.is_said()


def _sharded_as_written(cfg: Any) -> dict[str, Any]:
    """`cfg` with the keys of sharding that its YAML has: commands in one process switch them off."""
    values = cfg.to_dict() if hasattr(cfg, "to_dict") else dict(cfg)
    file = values.get("axolotl_config_path")
    # Without a file, a key that is there and empty has been switched off.
    written = raw_config(str(file)) if file else {key: True for key in sharding.KEYS if key in values}
    return values | {key: written[key] for key in sharding.KEYS if written.get(key)}
