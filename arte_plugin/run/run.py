"""One run of the loop: its config, tasks, folder and cache, and what its stages depend on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from arte_plugin import ranks, versions
from arte_plugin.config import axolotl_keys
from arte_plugin.config.arms import uses_drafts
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.engines import AutoEngineArgs
from arte_plugin.config.entries import SENTINEL
from arte_plugin.config.student import StudentArgs
from arte_plugin.config.tasks import AnswerType
from arte_plugin.data import aligned_on, local_files
from arte_plugin.data.tasks import Task, load_tasks
from arte_plugin.models import auto_engine
from arte_plugin.models.auto_engine import Choice
from arte_plugin.models.identity import fingerprint_model, tokenizer_hash
from arte_plugin.models.model import Model
from arte_plugin.models.placement import stay_on_cpu
from arte_plugin.models.prompt_style import settle
from arte_plugin.models.request_cache import RequestCache, cache_file
from arte_plugin.models.student import student_dtype
from arte_plugin.rows import PreferencePair, WorkedSeed, read_rows
from arte_plugin.run.clock import run_date
from arte_plugin.run.folder import RunFolder
from arte_plugin.run.manifest import Count, hash_file, hash_of
from arte_plugin.run.source import SourceRun
from arte_plugin.stages import STAGES, few_shot
from arte_plugin.stages.respondents import Respondent, respondents
from arte_plugin.training import (
    adapters,
    aligned_weights,
    precision,
    sharding,
    teacher_recipe,
    weight_change,
    weights_left,
)

#: How often `teacher` and `student` are asked: by settings, Axolotl's config and the loaded tasks (`plan.sizes`).
CallsOf = Callable[[ArteArgs, Mapping[str, Any], Sequence[Task]], Mapping[str, int]]


def arte_args(cfg: Any) -> ArteArgs:
    """The `arte:` block of Axolotl's config, validated."""
    block = cfg["arte"]
    return ArteArgs.model_validate(block.to_dict() if hasattr(block, "to_dict") else block)


class Run:
    """The run folder `OUTPUT_DIR/arte` of one YAML.

    It begins to be one when it `starts`: then its date is written down. Raises, when it is made, `ConfigError` and
    `DataError` for whatever is wrong with the tasks, the models' paths, and their chat templates: before any
    model is loaded.
    """

    def __init__(self, cfg: Any, starts: bool = True, calls: CallsOf | None = None):
        # A copy: Axolotl and the stages change theirs as they go.
        self.cfg = type(cfg)(cfg.to_dict()) if hasattr(cfg, "to_dict") else dict(cfg)
        stay_on_cpu(self.cfg)
        #: What is wrong with an aligned teacher that lies where this run's should (`aligned`).
        self.not_aligned = ""
        self.args = arte_args(cfg)
        if self.cfg.get("seed") is None:
            # Axolotl's default is no seed for the order of the rows and the adapter's initial weights.
            self.cfg["seed"] = self.args.seed
        self.output_dir = Path(cfg["output_dir"])
        self.out = RunFolder(self.output_dir / "arte", self.args.engine.rank_timeout)
        ranks.watch(self.out.path / "ranks", self.args.engine.heartbeat_timeout)
        held_out = self.args.held_out if self.args.rounds > 1 else 0.0
        self.tasks: list[Task] = load_tasks(self.args.tasks, self.args.seed, held_out)
        self.teacher_fingerprint()
        for student in self.args.students:
            fingerprint_model(student.base_model, student.revision)
            fingerprint_model(student.to_train.base_model, student.to_train.revision)
        for one in self.respondents:
            fingerprint_model(one.settings.base_model, one.settings.revision)
        aligned_weights.refuse_pieces_without_checkpoint(cfg)
        precision.check_installed(self.args.students)
        self.source = (
            SourceRun(self.args.from_run, self.cfg, self.args.from_run_revision) if self.args.from_run else None
        )
        there = self.source.drafts if self.source else Path(self.args.pair.drafts) if self.args.pair.drafts else None
        if there is not None:
            name = self.source.name if self.source else str(there)
            self.tasks = aligned_on.without_what_was_aligned_on(self.tasks, there, name, self.args.overlap)
        source = self.source.folder if self.source else None
        #: What `engine: {kind: auto}` came to; from here on `args` have that engine.
        self.chosen: Choice | None = None
        if isinstance(self.args.engine, AutoEngineArgs):
            self.chosen = self._settle_engine(self.args.engine, starts, calls)
            self.args.engine = self.chosen.engine(self.args.engine)
        self.args.date = run_date(self.out.path, self.args.date, source, keep=starts)
        #: How each model is asked; from here on `args` say so too, where they said `auto`.
        self.asked = settle(self.cfg, self.args)
        if self.source:
            self.source.check_rendering(self.teacher_rendering())
        self.cache = RequestCache(
            cache_file(self.args, self.out.path),
            also=self.source.cache if self.source else None,
            one_machine=not ranks.on_several_machines(),
        )

    def _settle_engine(self, settings: AutoEngineArgs, keep: bool, calls: CallsOf | None) -> Choice:
        """The engine that this run began with; one that begins enters it, and stays with it once it has answers."""
        if calls is None:
            raise ValueError("How an engine is chosen goes by what the stages ask: begin the run with `loop.begin`.")
        manifest = self.out.manifest
        # Before the manifest is read: the first rank enters its choice before it asks anything.
        anew = auto_engine.nothing_asked(self.args, self.out.path)
        if keep and not ranks.is_first():
            entered = lambda: int(manifest.engine() is not None)  # noqa: E731
            ranks.wait_until(entered, 1, settings.rank_timeout, "rank 0 to choose the engine")
        here = auto_engine.Machine.here()
        asked = lambda: calls(self.args, self.cfg, self.tasks)  # noqa: E731
        choice = auto_engine.settled(self.args, self.cfg, manifest, here, asked, student_dtype, anew=anew)
        if keep and ranks.is_first() and (anew or manifest.engine() is None):
            manifest.enter_engine(auto_engine.as_entered(choice))
        return choice

    @property
    def respondents(self) -> list[Respondent]:
        """Who answers the validation questions."""
        return respondents(self.args)

    @property
    def trains_on(self) -> str | None:
        """The adapter of the round before, which a later round's training of the teacher goes on from."""
        return self.cfg.get("lora_model_dir") if self.args.round > 1 else None

    @property
    def weights(self) -> dict[str, float]:
        """How much each student's score of a draft counts, by name; empty where they all count the same.

        Another run's scores are of that run's students.
        """
        students = self.args.students
        if self.source and not self.own_drafts:
            return self.source.weights
        return {student.name: student.weight for student in students} if len(students) > 1 else {}

    @property
    def kinds(self) -> dict[str, AnswerType]:
        """What an answer is, by task."""
        return {task.name: task.args.answer for task in self.tasks}

    @property
    def worked_seeds(self) -> Path | None:
        """The seed questions as the teacher solved them, if that is asked for; in later rounds those of the first."""
        if not self.args.elicit.worked_examples:
            return None
        first = self.output_dir.parent / "arte" / STAGES["elicit"] / few_shot.FILE
        return first if self.args.round > 1 and first.is_file() else self.out.file("elicit", few_shot.FILE)

    @property
    def shown_tasks(self) -> list[Task]:
        """The tasks with their seed questions as they stand in few-shot prompts."""
        if self.worked_seeds is None:
            return self.tasks
        respondents = self.respondents if self.args.preference_set.method == "irt" else []
        shots = max([0, *self.args.evaluate.shots, *(n for one in respondents for n in one.settings.shots)])
        return few_shot.with_worked_examples(self.tasks, read_rows(self.worked_seeds, WorkedSeed), shots)

    @property
    def pairs_file(self) -> Path:
        """The preference pairs: what the sentinel data set stands for."""
        return self.out.file("pair", "pairs.jsonl")

    @property
    def held_out_file(self) -> Path:
        """The pairs that the teacher isn't trained on, if `align.held_out` asks for some."""
        return self.out.file("pair", "held_out.jsonl")

    # --- Stage 5 is Axolotl's: what this run has to know of it -------------------------------------------------------

    def align_inputs(self) -> dict[str, Any]:
        """What the teacher's training depends on: the pairs, the base model and the training keys of the YAML."""
        training = axolotl_keys.of_training(self.cfg)
        # A model that this run has made, such as the teacher with its own adapter merged, moves with the run's folder.
        own = str(self.out.path.absolute())
        training = {key: value for key, value in training.items() if not str(value).startswith(own)}
        begun = {"adapter": fingerprint_model(self.trains_on)} if self.trains_on else {}
        training.pop("lora_model_dir", None)
        training["datasets"] = [
            entry for entry in map(dict, training.get("datasets") or []) if entry.get("path") != SENTINEL
        ]
        # By their content, as the pairs are: the entries only say where they lie.
        beside = local_files.hashes_of_datasets(
            [*training["datasets"], *map(dict, training.get("test_datasets") or [])]
        )
        training = sharding.as_in_one_process(training, ranks.world_size())
        if "gradient_accumulation_steps" in self.args.recipe:
            # So filled in that all processes together take this many pairs, whatever their number.
            training |= {"gradient_accumulation_steps": None, "batch_size": teacher_recipe.BATCH}
        training |= adapters.training(self.cfg)
        inputs = {
            "pairs": hash_file(self.pairs_file),
            **({"beside_pairs": beside} if beside else {}),
            "teacher": self.teacher_fingerprint(),
            **begun,
            **self.teacher_rendering(),
            "training": hash_of(training),
        }
        return versions.stage_inputs("align", inputs)

    def teacher_fingerprint(self) -> str:
        """The identity of the teacher that is aligned. Raises `ConfigError` where there is none."""
        return fingerprint_model(self.cfg["base_model"], self.cfg.get("revision_of_model"))

    def teacher_rendering(self) -> dict[str, Any]:
        """How the teacher's prompts and replies are rendered, as inputs of a stage."""
        known = [one.renderer.identity for one in self.asked if one.role == "teacher"]
        return {"prompt_style": self.args.teacher.prompt_style, "rendering": known}

    def teacher_tokenizer(self) -> str:
        """The hash of the teacher's tokenizer, as Axolotl makes it."""
        return next((tokenizer_hash(one.renderer.tokenizer) for one in self.asked if one.role == "teacher"), "")

    def student_rendering(self, student: StudentArgs) -> dict[str, Any]:
        """How a student's prompts and replies are rendered, as inputs of a stage."""
        return next((one.renderer.identity for one in self.asked if one.settings is student), {})

    @property
    def aligned_dir(self) -> Path:
        """Where the aligned teacher lies: in this run's folder, or in that of `from_run`."""
        return self.source.output_dir if self.source else self.output_dir

    @cached_property
    def own_drafts(self) -> bool:
        """Whether this run makes drafts: always, but for `from_run`, and there for arms whose drafts that run lacks."""
        if self.source is None:
            return True
        return uses_drafts(self.args.combinations.values()) and not self.source.has_scored_drafts(
            task.name for task in self.tasks
        )

    @property
    def makes_drafts(self) -> bool:
        """Whether stages 1 to 3 are its own: not with published drafts, nor with those of `from_run`."""
        return not self.args.pair.drafts and self.own_drafts

    def record_source(self, source: SourceRun) -> None:
        """Enter the teacher of `from_run` in the place of this run's own training."""
        inputs = {"from_run": fingerprint_model(str(source.output_dir))}
        if ranks.is_first() and not self.out.manifest.finished("align", hash_of(inputs)):
            there = source.manifest.stages().get("align")
            pairs = there.counts[0].kept if there else 0
            note = f"from {source.name}"
            self.out.manifest.record("align", inputs, [Count("pairs", pairs, pairs, note=note)], {}, 0.0)

    def aligned(self) -> bool:
        """Whether the teacher in `output_dir` is the one that these pairs and this YAML make, or another run's.

        What lies there is compared with what the training left, and `not_aligned` says what differs. An adapter's
        config that another training has written over its weights is put back.
        """
        self.not_aligned = ""
        if self.source:
            return True
        record = self.out.manifest.stages().get("align")
        if not aligned_weights.are_there(self.output_dir, bool(self.cfg.get("adapter"))) or record is None:
            return False
        if record.inputs_hash != hash_of(self.align_inputs()):
            return False
        # A run of the first version has not entered what was left.
        left = record.result.get(weights_left.KEY)
        self.not_aligned = weights_left.check(self.output_dir, left, self.args.engine.rank_timeout) if left else ""
        return not self.not_aligned

    def enter_weights(self) -> None:
        """Enter what the teacher's training left, again where it has been put together or repaired since."""
        record = self.out.manifest.stages().get("align")
        if self.source or record is None or not ranks.is_first():
            return
        left = weights_left.entry(self.output_dir)
        if record.result.get(weights_left.KEY) != left:
            self.out.manifest.amend("align", {weights_left.KEY: left})

    def record_aligned(
        self, inputs: Mapping[str, Any], seconds: float, note: str, memory: Mapping[str, int],
        loaded: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Enter the teacher's finished training; ranks other than the first wait until it is entered."""
        if ranks.is_first():
            if self.cfg.get("adapter") and aligned_weights.are_there(self.output_dir, True):
                # Before its files are hashed, or a repaired one would be taken for somebody else's.
                aligned_weights.repair_adapter(self.output_dir)
            pairs = sum(not one.is_copy for one in read_rows(self.pairs_file, PreferencePair))
            base, revision = self.cfg["base_model"], self.cfg.get("revision_of_model")
            moved = weight_change.change(base, self.output_dir, "the teacher", revision, self.trains_on)
            notes = ", ".join(one for one in (note, moved.note() if moved else "") if one)
            self.out.manifest.record(
                "align", inputs, [Count("pairs", pairs, pairs, note=notes)], {}, seconds,
                result={
                    "recipe": self.args.recipe,
                    "change": asdict(moved) if moved else None,
                    weights_left.KEY: weights_left.entry(self.output_dir),
                },
                memory=memory, loaded={self.cfg["base_model"]: dict(loaded)},
            )  # fmt: skip
        self.out.wait_for("align", hash_of(inputs))

    # --- What stages depend on ------------------------------------------------------------------------------

    def scored_drafts(self) -> tuple[Path, Path]:
        """The drafts and their scores: this run's, another run's, or published ones."""
        settings = self.args.pair
        if self.source and not self.own_drafts:
            return self.source.drafts, self.source.scores
        return (
            Path(settings.drafts or self.out.file("elicit", "drafts.jsonl")),
            Path(settings.scores or self.out.file("probe", "scores.jsonl")),
        )

    def examples_file(self, arm: str) -> Path:
        """The rows that an arm's student is trained on."""
        return self.out.file("regenerate", "tailored.jsonl" if arm == "arte" else f"{arm}.jsonl")

    def asking(self, model: Model) -> dict[str, Any]:
        """What the replies of a model depend on, beside the stage's own settings."""
        return {
            "model": dict(model.identity),
            "rendering": model.renderer.identity,
            # No part of how a text is rendered, so that the teacher is not trained again for more of them.
            **({"thought_tokens": model.renderer.thought.max_tokens} if model.renderer.thought else {}),
            "tasks": self.task_inputs(),
            "seed": self.args.sampling_seed,
        }

    def shot_inputs(self) -> dict[str, str]:
        """What few-shot prompts depend on beside the tasks."""
        return {"worked_seeds": hash_file(self.worked_seeds)} if self.worked_seeds else {}

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
