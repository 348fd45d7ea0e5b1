"""A whole plan: calls, memory and disk of a config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.engines import AutoEngineArgs, TransformersEngineArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import ConfigError
from arte_plugin.models import gpus_seen
from arte_plugin.models.auto_engine import Choice, Machine, nothing_asked, settled
from arte_plugin.models.student import student_dtype
from arte_plugin.plan import disk, machine, memory, rates, shapes, sizes
from arte_plugin.plan.lengths import longest_rows
from arte_plugin.plan.rates import Rate
from arte_plugin.plan.totals import works
from arte_plugin.plan.training_memory import optimizer_bytes, training_need
from arte_plugin.plan.work import Work
from arte_plugin.plan.writing_memory import writing_need
from arte_plugin.run.manifest import Manifest
from arte_plugin.run.trainings import trainings
from arte_plugin.stages.fine_tuning import SHARED_KEYS, recipe
from arte_plugin.training.precision import wanted

#: Bytes of a GPU's memory where none is seen here.
_PLANNED = 80 * 10**9


@dataclass(frozen=True)
class Plan:
    """What a run will ask, hold and leave."""

    works: list[Work]
    needs: list[memory.Need]
    #: Bytes by what they are.
    disk: dict[str, float]
    found: sizes.Measured
    gpus: int
    #: Models without a config.json here, each with what to do.
    missing: list[str] = field(default_factory=list)
    #: Whether a student is trained with float32 weights where they fit.
    float32_students: bool = False
    #: How fast `teacher` and `student` read and write.
    rates: Mapping[str, Rate] = field(default_factory=dict)
    #: What `engine: {kind: auto}` comes to, and the GPU-hours that this saves; empty for other engines.
    engine: str = ""


def make_plan(cfg: Mapping[str, Any], args: ArteArgs, gpus: int, configs: Mapping[str, str]) -> Plan:
    """The plan of a YAML; `configs` are files that stand for the config.json of models that are not here.

    `engine: {kind: auto}` is settled in `args`, as the run would on a machine like this one with `gpus` GPUs.

    Raises `ConfigError` and `DataError` as a run would for its tasks, and for a config.json that says nothing.
    """
    teacher = str(cfg["base_model"])
    chosen = _settle_engine(cfg, args, gpus)
    found = sizes.sizes_of(args, teacher)
    own_drafts = sizes.makes_drafts(args, cfg)
    works_ = [one.times(args.rounds) for one in works(args, found.tasks, own_drafts=own_drafts)]
    missing: list[str] = []
    known: dict[str, shapes.Shape] = {}
    revisions = {teacher: cfg.get("revision_of_model")}
    for one in args.students:
        revisions.setdefault(one.base_model, one.revision)
    for respondent in args.preference_set.respondents:
        revisions.setdefault(respondent.base_model, respondent.revision)
    for name, revision in revisions.items():
        try:
            known[name] = shapes.shape_of(name, shapes.find_config(configs.get(name, name), revision))
        except shapes.NotHere as error:
            missing.append(str(error))
    needs = _needs(cfg, args, found, known, gpus, own_drafts)
    float32 = any(machine.has_float32_weights(student_training(cfg, student)) for student in args.students)
    bytes_ = _disk(cfg, args, works_, found, known)
    rates_ = _rates(cfg, args, known, gpus)
    engine = ""
    if chosen is not None:
        without = args.model_copy(update={"engine": TransformersEngineArgs()})
        hours = [
            sum(one.hours(each[one.who]) for one in works_ if one.stage != "evaluate")
            for each in (_rates(cfg, without, known, gpus), rates_)
        ]
        engine = chosen.line()
        if chosen.program:
            engine += (
                f". By the rates below that takes {hours[1]:.2f} GPU-hours in place of {hours[0]:.2f}; a start of a "
                "server takes about a minute"
            )
    return Plan(works_, needs, bytes_, found, gpus, missing, float32, rates_, engine)


def _settle_engine(cfg: Mapping[str, Any], args: ArteArgs, gpus: int) -> Choice | None:
    """Put what `engine: {kind: auto}` comes to into `args`; None for other engines."""
    settings = args.engine
    if not isinstance(settings, AutoEngineArgs):
        return None
    here = Machine.here()
    # Where there is no GPU, the plan is for a machine that has some.
    machine = replace(here, gpus=gpus) if here.gpus else Machine(gpus, _PLANNED, here.finds)
    folder = Path(str(cfg.get("output_dir") or "./model-out")) / "arte"
    manifest = Manifest(folder / "manifest.json")
    calls = lambda: sizes.calls_of(args, cfg)  # noqa: E731
    dtype_of = lambda student: probing_dtype(student, cfg)  # noqa: E731
    chosen = settled(args, cfg, manifest, machine, calls, dtype_of, anew=nothing_asked(args, folder))
    args.engine = chosen.engine(settings)
    return chosen


def _rates(cfg: Mapping[str, Any], args: ArteArgs, known: Mapping[str, shapes.Shape], gpus: int) -> dict[str, Rate]:
    def parameters(name: str) -> float | None:
        return known[name].parameters if name in known else None

    teacher = str(cfg["base_model"])
    students = [(one.base_model, parameters(one.base_model), probing_dtype(one, cfg)) for one in args.students]
    return {
        "teacher": rates.teacher_rate(teacher, parameters(teacher), cfg, args, machine.setup_of(cfg, gpus).pieces),
        "student": rates.student_rate(students, args),
    }


def student_training(cfg: Mapping[str, Any], student: StudentArgs, gpus: int = 1) -> dict[str, Any]:
    """The Axolotl keys of a student's fine-tuning that decide its memory, as `stages.sft.student_config` sets them."""
    shared = {key: cfg[key] for key in SHARED_KEYS if cfg.get(key) is not None}
    config = {"sequence_len": 2048, **recipe(student.sft, gpus), **shared, **student.sft}
    return config | wanted(config, student.sft)


def probing_dtype(student: StudentArgs, cfg: Mapping[str, Any]) -> str:
    """The precision that a student is asked in: that of a run here, as far as there is a GPU to tell.

    Where there is none, the plan is for a machine that has some, and `auto` goes by the YAML.
    """
    if student.dtype != "auto" or gpus_seen.seen().memory:
        return student_dtype(student)
    half = cfg.get("bf16") or cfg.get("bfloat16") or machine.has_float32_weights(cfg)
    return "bfloat16" if half else "float32"


def _needs(
    cfg: Mapping[str, Any], args: ArteArgs, found: sizes.Measured, known: Mapping[str, shapes.Shape], gpus: int,
    own_drafts: bool,
) -> list[memory.Need]:  # fmt: skip
    needs: list[memory.Need] = []
    of_teacher, of_student = [one.teacher for one in found.tasks], [one.student for one in found.tasks]
    cache = None if args.engine.cache_gib is None else args.engine.cache_gib * memory.GIB
    if teacher := known.get(str(cfg["base_model"])):
        if not serves(args, "teacher"):
            prompt = round(max(one.chat + one.question_prompt for one in of_teacher))
            written = round(max(args.elicit.questions_per_prompt * one.written_question for one in of_teacher))
            longest = max(args.elicit.max_new_tokens, args.regenerate.max_new_tokens)
            lengths = (prompt, min(written, longest), longest)
            dtype = machine.writing_dtype(cfg)
            weights = teacher.weights(dtype, machine.packing(cfg))
            spread = machine.writes_on(weights, machine.setup_of(cfg, gpus).pieces)
            rows = args.elicit.batch_size
            needs.append(
                writing_need("elicit", "the teacher at work", teacher, cfg, dtype, rows, cache, lengths, spread)
            )
        if args.from_run is None:
            usual, _ = longest_rows(of_teacher, args.elicit.questions_per_prompt)
            needs.append(training_need("the teacher's training", teacher, cfg, gpus, usual, dpo=True))

    def few_shot(shots: int) -> int:
        return round(max(one.chat + one.before + shots * one.shot + one.question + one.frame for one in of_student))

    reply = round(max(one.reply for one in of_student))
    shots = max((n for one in args.preference_set.respondents for n in one.shots), default=3)
    for student in args.students:
        if (shape := known.get(student.base_model)) is None:
            continue
        dtype = probing_dtype(student, cfg)
        name = f" {student.name}" if len(args.students) > 1 else ""
        # A student is never quantised, whatever the teacher is.
        keys = {
            **cfg,
            "adapter": None,
            "attn_implementation": student.attn_implementation or cfg.get("attn_implementation"),
        }
        if own_drafts and not serves(args, "student"):
            rows = args.probe.batch_size
            asked = (few_shot(shots), reply, args.probe.max_new_tokens)
            needs.append(writing_need("probe", f"the student{name} at work", shape, keys, dtype, rows, cache, asked))
        training = student_training(cfg, student, gpus)
        _, usual = longest_rows(of_student, args.elicit.questions_per_prompt)
        needs.append(training_need(f"the student{name}'s training", shape, training, gpus, usual, dpo=False))
        asked = (
            few_shot(max(args.evaluate.shots)),
            min(reply, args.evaluate.max_new_tokens),
            args.evaluate.max_new_tokens,
        )
        rows = args.evaluate.batch_size
        step = f"the student{name}'s evaluation"
        needs.append(writing_need("evaluate", step, shape, keys, dtype, rows, cache, asked))
    return needs


def serves(args: ArteArgs, role: str) -> bool:
    """Whether servers run the teacher, or the student: what they hold, their commands say."""
    return bool(getattr(args.engine, role, None))


def _disk(
    cfg: Mapping[str, Any], args: ArteArgs, asked: Sequence[Work], found: sizes.Measured,
    known: Mapping[str, shapes.Shape],
) -> dict[str, float]:  # fmt: skip
    bytes_, first, rounds = disk.Bytes(), found.tasks[0], args.rounds
    made = disk.rows_and_cache(asked, first.student.reply, first.teacher.rationale, bytes_)
    students = checkpoints = 0.0
    for student in args.students:
        if shape := known.get(student.base_model):
            runs = {(one.arm, one.seed) for one in trainings(args) if one.student is student}
            keys = student_training(cfg, student)
            weights = shape.weights(machine.setup_of(keys, 1).dtype)
            # Stage 7b leaves a student beside each of them.
            students += len(runs) * weights * (2 if student.dpo else 1)
            if keys.get("save_strategy") != "no":
                # The next is written before the last is gone; weights and what the optimizer keeps.
                size = int(shapes.SIZES[machine.setup_of(keys, 1).dtype])
                states = shape.parameters * optimizer_bytes(str(keys["optimizer"]), size)
                checkpoints = max(checkpoints, 2 * (weights + states))
    made["the students"] = students * rounds
    made["checkpoints while a student is trained"] = checkpoints
    if args.from_run is None and (teacher := known.get(str(cfg["base_model"]))):
        # Beside an adapter Axolotl leaves the weights that it was trained on.
        weights = teacher.weights(machine.setup_of(cfg, 1).dtype, machine.packing(cfg))
        made["the aligned teacher"] = weights * rounds
    return made


def check_configs(given: Sequence[str]) -> dict[str, str]:
    """`MODEL=FILE` as a dictionary. Raises `ConfigError` for anything else."""
    pairs = [one.partition("=") for one in given]
    for name, mark, file in pairs:
        if not (name and mark and file):
            raise ConfigError(f"`--config-of` is MODEL=FILE (found {name}{mark}{file}).")
    return {name: file for name, _, file in pairs}


def visible_gpus() -> int:
    """How many GPUs this process sees; 1 where there is none."""
    import torch

    return max(1, torch.cuda.device_count())
