"""One run of the loop: its config, tasks, folder and cache, and what its stages depend on."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arte_plugin import answers, prompts, question_tags, ranks
from arte_plugin.args import SENTINEL, Arm, ArteArgs, RespondentArgs
from arte_plugin.manifest import Count, hash_file, hash_of
from arte_plugin.models import Model, fingerprint_model, stay_on_cpu
from arte_plugin.request_cache import RequestCache
from arte_plugin.rows import PreferencePair, read_rows
from arte_plugin.run_folder import RunFolder
from arte_plugin.stages import benchmarks
from arte_plugin.summary import summary
from arte_plugin.tasks import Task, load_task

#: Top-level keys that do not decide what the teacher's training comes to.
_NOT_TRAINING = (
    "arte", "axolotl_config_path", "capabilities", "env_capabilities", "dataset_prepared_path", "debug", "device",
    "device_map", "ddp", "local_rank", "output_dir", "strict", "world_size", "resume_from_checkpoint",
    "auto_resume_from_checkpoints", "plugins", "excess_length_strategy", "dataset_num_proc", "dataset_processes",
)  # fmt: skip

#: The modules that ask and read.
_WORDING = (prompts, answers, question_tags)


class Run:
    """The run folder `OUTPUT_DIR/arte` of one YAML.

    Raises, when it is made, `ConfigError` and `DataError` for whatever is wrong with the tasks, the models' paths
    and the benchmarks' names: before any model is loaded.
    """

    def __init__(self, cfg: Any):
        # A copy: Axolotl and the stages change theirs as they go.
        self.cfg = type(cfg)(cfg.to_dict()) if hasattr(cfg, "to_dict") else dict(cfg)
        stay_on_cpu(self.cfg)
        block = cfg["arte"]
        self.args = ArteArgs.model_validate(block.to_dict() if hasattr(block, "to_dict") else block)
        if self.cfg.get("seed") is None:
            # Axolotl's default is no seed for the order of the rows and the adapter's initial weights.
            self.cfg["seed"] = self.args.seed
        self.output_dir = Path(cfg["output_dir"])
        self.out = RunFolder(self.output_dir / "arte", self.args.engine.rank_timeout)
        self.tasks: list[Task] = [load_task(task, self.args.seed) for task in self.args.tasks]
        for path in {cfg["base_model"], self.args.student.base_model, *(r.base_model for r in self.respondents)}:
            fingerprint_model(path)
        benchmarks.check_names(self.args.evaluate.benchmarks)
        self.cache = RequestCache(
            Path(self.args.cache).expanduser() if self.args.cache else self.out.path / "requests.sqlite"
        )
        # What is asked and how the replies are read: a newer version's stages are not done by an older one's.
        self.wording = hash_of({module.__name__: inspect.getsource(module) for module in _WORDING})

    @property
    def respondents(self) -> list[RespondentArgs]:
        """Who answers the validation questions: as configured, or the student at 0 to 3 shots."""
        student = self.args.student
        default = RespondentArgs(base_model=student.base_model, prompt_style=student.prompt_style)
        return self.args.preference_set.respondents or [default]

    @property
    def pairs_file(self) -> Path:
        """The preference pairs: what the sentinel data set stands for."""
        return self.out.file("pair", "pairs.jsonl")

    # --- Stage 5 is Axolotl's: what this run has to know of it -------------------------------------------------------

    def align_inputs(self) -> dict[str, Any]:
        """What the teacher's training depends on: the pairs, the base model and the training keys of the YAML."""
        training = {
            key: value for key, value in dict(self.cfg).items() if key not in _NOT_TRAINING and value is not None
        }
        training["datasets"] = [
            entry for entry in map(dict, training.get("datasets") or []) if entry.get("path") != SENTINEL
        ]
        return {
            "pairs": hash_file(self.pairs_file),
            "teacher": fingerprint_model(self.cfg["base_model"]),
            "prompt_style": self.args.teacher.prompt_style,
            "training": hash_of(training),
        }

    def aligned(self) -> bool:
        """Whether the teacher in `output_dir` is the one that these pairs and this YAML make."""
        weights = "adapter_config.json" if self.cfg.get("adapter") else "config.json"
        return (self.output_dir / weights).is_file() and self.out.manifest.finished(
            "align", hash_of(self.align_inputs())
        )

    def record_aligned(self, inputs: Mapping[str, Any], seconds: float, note: str) -> None:
        """Enter the teacher's finished training; ranks other than the first wait until it is entered."""
        if ranks.is_first():
            pairs = len(read_rows(self.pairs_file, PreferencePair))
            self.out.manifest.record("align", inputs, [Count("pairs", pairs, pairs, note=note)], {}, seconds)
        self.out.wait_for("align", hash_of(inputs))

    def summary(self) -> str:
        """The stage table and, once it is there, the accuracy table."""
        return summary(self.out.path)

    # --- What stages depend on ------------------------------------------------------------------------------

    def scored_drafts(self) -> tuple[Path, Path]:
        """The drafts and their scores: this run's, or published ones."""
        settings = self.args.pair
        return (
            Path(settings.drafts or self.out.file("elicit", "drafts.jsonl")),
            Path(settings.scores or self.out.file("probe", "scores.jsonl")),
        )

    def examples_file(self, arm: Arm) -> Path:
        """The rows that an arm's student is trained on."""
        return self.out.file("regenerate", "tailored.jsonl" if arm == "arte" else f"{arm}.jsonl")

    def asking(self, model: Model) -> dict[str, Any]:
        """What the replies of a model depend on, beside the stage's own settings."""
        return {
            "model": dict(model.identity),
            "prompt_style": model.renderer.style,
            "tasks": self.task_inputs(),
            "wording": self.wording,
            "seed": self.args.seed,
        }

    def task_inputs(self) -> list[dict[str, Any]]:
        """What makes every task, with its questions as hashes."""
        return [
            {
                "name": task.name,
                "description": task.args.description,
                "answer": task.args.answer,
                "techniques": task.args.techniques,
                **{split: hash_of({"rows": [asdict(q) for q in rows]}) for split, rows in task.splits().items()},
            }
            for task in self.tasks
        ]
