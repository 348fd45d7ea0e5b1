"""Stage 7b: the tuned student's own DPO, by a child `axolotl train`, on pairs that its attempts make. Not in the paper.

Socratic-Zero (arXiv 2509.24726) and PLaD (2406.02886) train a student so; the pairing says on which pairs. The
reference is always the student as it was tuned: with the teacher for a reference this collapses (2503.07067).
"""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.entries import PAIRS_STRATEGY
from arte_plugin.config.student_dpo import pairing, training_keys
from arte_plugin.errors import StageError
from arte_plugin.models.asking import ModelAsking
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.pairings.attempts import asked
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Bounds, Evidence, Scored
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Attempt, Dropped, PreferencePair, TailoredExample, read_rows, write_rows
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import Count, StageRecord, count_rows, hash_file, hash_of
from arte_plugin.run.trainings import Training, trainings
from arte_plugin.stages import STAGES, batch, fine_tuning
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.stage import Stage, asks_again, differs
from arte_plugin.training import child, teacher_recipe
from arte_plugin.training.weight_change import Change

if TYPE_CHECKING:
    from arte_plugin.run.run import Run
    from arte_plugin.stages.shrinkage import Shrunken

LOG = logging.getLogger(LOGGER)

#: All weights, on some hundred pairs: what DPO of a tuned model is usually done with (Zephyr, 2310.16944: 5e-7).
FULL: dict[str, Any] = {"learning_rate": 5e-7, "num_epochs": 1, "rl_beta": 0.1}


class StudentDpo(Stage):
    """Stage 7b. In the manifest it is `student-dpo` for the arm `arte`, and `student-dpo/ARM` for others."""

    name: ClassVar[str] = "student-dpo"
    what = "the tuned student's own DPO, where `student.dpo` asks for it"
    behind = ("sft",)
    writes = ("attempts.jsonl", "pairs.jsonl", "dropped.jsonl", "student.yaml", "student/", "train.log")
    on_one_rank = True
    rare = True

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        return any(student.dpo for student in args.students)

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        for training in dpo_trainings(args):
            yield from pairing(training.student.dpo).made().calls(task)

    @override
    def entries(self, args: ArteArgs) -> set[str]:
        return {stage_of(training) for training in dpo_trainings(args)}

    @override
    def do(self, run: "Run") -> None:
        """For every student that has one, arm and seed."""
        for training in dpo_trainings(run.args):
            self.train(run, training)

    def train(self, run: "Run", training: Training) -> None:
        """One of them."""
        student, name = training.student, stage_of(training)
        tuned = TrainedStudent(**run.out.manifest.stages()[training.stage].result)
        examples_file = run.examples_file(training.arm)
        folder = self.file(run, training.folder)
        chosen = pairing(student.dpo)
        model = _tuned_model(run, training, tuned)
        inputs: dict[str, Any] = {
            "tuned": tuned.fingerprints(),
            "tailored": hash_file(examples_file),
            "attempts": {**run.asking(model), "max_new_tokens": run.args.probe.max_new_tokens, **asks_again(run)},
            "pairing": chosen.identity,
            "kinds": run.kinds,
        }
        date = run.student_rendering(student).get("date")
        made_from = versions.stage_inputs(name, inputs)
        config = dpo_config(run.cfg, training, tuned, examples_file, folder, date, made_from)
        keys = training_keys(student.dpo)
        inputs["config"] = hash_of(fine_tuning.decisive(config, keys))

        def work() -> Made:
            examples = read_rows(examples_file, TailoredExample)
            attempts = _attempts(run, model, examples, chosen.settings)
            # Its memory is the training's.
            model.close()
            pairs, dropped = _pairs(run, training, config, chosen.made(), examples, attempts)
            counts = [
                Count("attempts", len(attempts), len(attempts), note=_right(attempts)),
                count_rows("pairs", len(pairs), dropped),
            ]
            run.out.overwrites(name)
            # The training reads them.
            write_rows(folder / "pairs.jsonl", pairs)
            if pairs:
                trained = fine_tuning.train(config, folder, batch.processes(keys, child.gpus()))
                note = Change(**trained.change).note() if trained.change else ""
            else:
                LOG.warning("%s: no pair could be made of the student's attempts; it stays as it was tuned", name)
                trained, note = replace(tuned, change=None), "no pairs: it stays as it was tuned"
            counts[1].note = note
            files: Files = {folder / "attempts.jsonl": attempts, folder / "dropped.jsonl": dropped}
            return files, counts, asdict(trained)

        run.out.stage(name, inputs, work, [model])

    @override
    def differences(
        self, record: StageRecord, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
    ) -> Iterator[bool]:
        """Its examples are any arm's."""
        if there := [*(folder / STAGES["regenerate"]).glob("*.jsonl")]:
            yield all(differs(record.inputs.get("tailored"), file) for file in there)


def dpo_trainings(args: ArteArgs) -> Iterator[Training]:
    """Those of stage 7 that another follows."""
    return (training for training in trainings(args) if training.student.dpo)


def stage_of(training: Training) -> str:
    """The name in the manifest of the DPO that follows a fine-tuning."""
    return "/".join([StudentDpo.name, *([training.folder] if training.folder else [])])


def dpo_config(
    cfg: Mapping[str, Any], training: Training, tuned: TrainedStudent, examples: Path, folder: Path, date: str | None,
    made_from: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """A complete Axolotl config for the tuned student's DPO, from that of a fine-tuning; see `student_config`."""
    keys = training_keys(training.student.dpo)
    recipe: dict[str, Any] = {
        **{key: teacher_recipe.RECIPE[key] for key in ("lr_scheduler", "warmup_ratio")},
        **({**teacher_recipe.ADAPTER, "lora_target_linear": True} if keys.get("adapter") else FULL),
        "micro_batch_size": 1,
        "gradient_accumulation_steps": teacher_recipe.BATCH,
    }
    if teacher_recipe.NORMED in (keys.get("dpo_loss_type") or []):
        recipe["rl_beta"] = teacher_recipe.NORMED_BETA
    if keys.get("adapter") and (keys.get("lora_target_modules") or keys.get("lora_target_parameters")):
        del recipe["lora_target_linear"]
    student = training.student.model_copy(
        update={"base_model": tuned.model, "revision": None, "sft": {**recipe, **keys, "rl": "dpo"}}
    )
    config = fine_tuning.student_config(cfg, student, examples, folder, training.seed, date, made_from)
    [entry] = config["datasets"]
    # Of a DPO entry Axolotl keeps but a few keys. This one of them is read by none of its strategies for such pairs.
    config["datasets"] = [
        {
            "path": str((folder / "pairs.jsonl").absolute()),
            "type": PAIRS_STRATEGY,
            "field_messages": entry["input_format"],
        }
    ]
    # `fits` has counted and dropped what is too long.
    return {**config, "excess_length_strategy": "raise"}


def _tuned_model(run: "Run", training: Training, tuned: TrainedStudent) -> Model:
    """The student of stage 7 as a model that can be asked; nothing is loaded. Only this rank asks it."""
    name = f"{training.student.name}/{training.label}"
    like = training.student.model_copy(update={"base_model": tuned.model, "revision": tuned.revision, "name": name})
    model = student_model(like, run.args, run.cfg, run.cache)
    model.alone = True
    return model


def _attempts(
    run: "Run", model: Model, examples: Sequence[TailoredExample], settings: Any
) -> list[Attempt]:  # fmt: skip
    def no_teacher() -> Model:
        raise StageError("No teacher is asked in stage 7b.")

    asking = ModelAsking([model], no_teacher, run.args.probe, run.args.regenerate.max_new_tokens, run.args.seed)
    found: list[Attempt] = []
    for task in run.tasks:
        of_task = [asked(one) for one in examples if one.task == task.name]
        questions = list({one.question_id: one for one in of_task}.values())
        found += asking.attempts(
            model, task, questions, samples=settings.samples, temperature=settings.temperature, greedy=False
        )
    return found


def _pairs(
    run: "Run", training: Training, config: Mapping[str, Any], strategy: Any, examples: Sequence[TailoredExample],
    attempts: Sequence[Attempt],
) -> tuple[list[PreferencePair], list[Dropped]]:  # fmt: skip
    tokenizer, renderer = fine_tuning.tokenizer_and_renderer(config)
    longest = config["sequence_len"]

    @cache
    def fits(prompt: str, completion: str) -> bool:
        text = renderer.prompt(prompt) + renderer.completion(completion)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= longest

    pairs: list[PreferencePair] = []
    dropped: list[Dropped] = []
    asking_seed = run.args.seed
    for task in run.tasks:
        evidence = Evidence(
            examples={training.arm: [one for one in examples if one.task == task.name]},
            attempts=[one for one in attempts if one.task == task.name],
        )
        limit = run.args.pair.rationale_pairs
        bounds = Bounds(asking_seed, fits, run.kinds[task.name], 0, limit, run.args.pair.margin)
        rng = random.Random(f"{asking_seed}/{task.name}/{StudentDpo.name}")
        for row in strategy.pairs(task.name, (), Scored({}, {}, _no_beliefs), evidence, bounds, rng):
            if isinstance(row, Dropped):
                dropped.append(row)
            else:
                pairs.append(row)
    return pairs, dropped


def _no_beliefs() -> "Shrunken":
    raise StageError("Attempts have no scores, of which something could be believed.")


def _right(attempts: Sequence[Attempt]) -> str:
    """Shares of what became of them, for the table."""
    if not attempts:
        return ""
    right, unparsed = (sum(one.outcome == kind for one in attempts) for kind in ("correct", "unparsed"))
    return f"{100 * right / len(attempts):.1f} % right, {100 * unparsed / len(attempts):.1f} % unparsed"
