"""Rounds: the loop once more, with the aligned teacher and the tuned students of the round before.

Every round is an ordinary run with a YAML and an output folder of its own; the first is the one that the user started.
"""

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from arte_plugin.config.check import raw_config
from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import StageError
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.models.student import student_dtype
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Result, write_text
from arte_plugin.run.folder import Made
from arte_plugin.run.manifest import Count, Manifest
from arte_plugin.run.merging import refuse_lossy
from arte_plugin.run.run import Run
from arte_plugin.run.trainings import trainings
from arte_plugin.stages import STAGES
from arte_plugin.stages.fine_tuning import TrainedStudent, plain
from arte_plugin.stages.kept_examples import hashes_of_kept
from arte_plugin.training import child
from arte_plugin.training.sharding import KEYS as SHARDING

LOG = logging.getLogger(LOGGER)

FILE = "rounds.json"

#: Not taken over from the command line: a later round has a block and checkpoints of its own.
_NOT_FOR_ROUNDS = ("arte", "axolotl_config_path", "resume_from_checkpoint")

_HEADER = """\
# Round {number}, written by arte_plugin. It is complete; to run it alone:  axolotl train {path}
# Teacher: {teacher}, as round {before} aligned it. Students: as round {before} tuned them{anew}.
"""


@dataclass(frozen=True)
class RoundResult:
    """What a round came to; accuracies in 0..1, means over tasks, shots and students."""

    round: int
    folder: str
    pairs: int
    #: On the held-out validation questions, before and after the students' fine-tuning.
    held_out_before: float
    held_out_after: float
    #: On the test questions, likewise.
    test_before: float
    test_after: float


def go_on(run: Run) -> None:
    """Run the later rounds, while the students get better on the held-out validation questions.

    Raises `StageError` when a round fails, with the end of its log; what was made stays, and the next start goes on.
    """
    config = _as_started(raw_config(str(run.cfg["axolotl_config_path"])), run.args.command_line)
    arm = run.args.leading_arm
    rounds = [_result(1, run.output_dir, arm)]
    for number in range(2, run.args.rounds + 1):
        latest = rounds[-run.args.patience :]
        if len(latest) == run.args.patience and all(row.held_out_after <= row.held_out_before for row in latest):
            LOG.info("round %d left the students no better: no round %d", rounds[-1].round, number)
            break
        before, folder = Path(rounds[-1].folder), run.output_dir / f"round-{number}"
        config = _next_config(run, config, number, before, folder)
        _run_round(run, config, number, before, folder)
        rounds.append(_result(number, folder, arm))
    write_text(run.out.path / FILE, json.dumps([asdict(row) for row in rounds], indent=2) + "\n")


def from_command_line(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level keys that options have set, of a config with them in it that Axolotl has not yet validated.

    Afterwards they can't be told from what Axolotl itself makes of the YAML. Nothing where there is no YAML.
    """
    if not cfg.get("axolotl_config_path"):
        return {}
    from axolotl.cli.args import TrainerCliArgs

    written = raw_config(str(cfg["axolotl_config_path"]))
    # The command's own options are handed over whether they were given or not.
    other = {*_NOT_FOR_ROUNDS, *(field.name for field in fields(TrainerCliArgs))}
    said = {key: value for key, value in cfg.items() if key not in other and value != written.get(key)}
    # Commands in one process switch sharding off; that is no wish of the user's.
    return plain({key: value for key, value in said.items() if value is not None or key not in SHARDING})


def _as_started(config: Mapping[str, Any], command_line: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML with what options on the command line have put in the place of its own values, or beside them."""
    return copy.deepcopy({**config, **command_line})


def _next_config(run: Run, config: Mapping[str, Any], number: int, before: Path, folder: Path) -> dict[str, Any]:
    """The YAML of a round: that of the one before with its teacher and students."""
    made = copy.deepcopy(dict(config))
    made["output_dir"] = str(folder)
    # An adapter is trained on from as it is: merged into half precision, most of a small one is lost (`adapters`).
    base = run.cfg["base_model"] if made.get("adapter") else str(before)
    if Path(base).expanduser().is_dir():
        base = str(Path(base).expanduser().absolute())
        made.pop("revision_of_model", None)
    made["base_model"] = base
    made.pop("base_model_config", None)
    if made.get("adapter"):
        made["lora_model_dir"] = str(before.absolute())
    block = made["arte"]
    # Prompts stay the same, whatever the day and whatever a folder's name says of the model in it.
    block |= {"round": number, "cache": str(run.cache.path.absolute()), "date": run.args.date}
    block["teacher"] = {**(block.get("teacher") or {}), "prompt_style": run.args.teacher.prompt_style}
    if run.chosen is not None and not _began_on_servers(run):
        # Later rounds stay with the engine of the first.
        block["engine"] = run.args.engine.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    students = block["student"] if isinstance(block["student"], list) else [block["student"]]
    for student, settings in zip(students, run.args.students, strict=True):
        student.pop("revision", None)
        trained = _tuned(run, before, settings.name)
        model = Path(trained.model) if trained.adapter is None else folder / "students" / settings.name
        student |= {
            "name": settings.name, "base_model": str(model.absolute()), "prompt_style": settings.prompt_style
        }  # fmt: skip
        if run.args.student_from == "base":
            student |= _beginning(settings)
    if run.args.keep_examples:
        block["kept_from"] = str(before.absolute())
    return made


def _beginning(settings: StudentArgs) -> dict[str, str]:
    """The student that the first round began with, as a later one's fine-tuning starts from it."""
    base, revision = settings.base_model, settings.revision
    if Path(base).expanduser().is_dir():
        return {"trained_from": str(Path(base).expanduser().absolute())}
    return {"trained_from": base, **({"trained_from_revision": revision} if revision else {})}


def _run_round(run: Run, config: Mapping[str, Any], number: int, before: Path, folder: Path) -> None:
    students = {one.name: _tuned(run, before, one.name) for one in run.args.students}
    inputs = {
        "config": plain(config),
        "teacher": fingerprint_model(str(before)),
        "students": {name: one.fingerprints() for name, one in students.items()},
        # The config only names the files that these come from.
        "tasks": run.task_inputs(),
        "categories": [task.args.category for task in run.tasks],
        **run.shot_inputs(),
    }
    if run.args.keep_examples:
        inputs["kept"] = hashes_of_kept([*run.args.combinations], before)

    def work() -> Made:
        log_file = folder / "round.log"
        with child.locked_log(log_file, f"round {number}") as log:
            for settings in run.args.students:
                student = students[settings.name]
                if student.adapter:
                    target = folder / "students" / settings.name
                    refuse_lossy(
                        student.model, student.adapter, student_dtype(settings), "the student's", student.revision
                    )
                    _merge_student(student, target)
            file = folder / "config.yaml"
            anew = ", fine-tuned from the beginning" if run.args.student_from == "base" else ""
            header = _HEADER.format(
                number=number, before=number - 1, path=file, teacher=run.cfg["base_model"], anew=anew
            )
            write_text(file, header + yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))
            if _began_on_servers(run):
                _hand_on_engine(run, folder)
            LOG.info("round %d; its log is %s", number, log_file)
            code = child.axolotl(log, "train", str(file))
        if code != 0:
            raise StageError(f"Round {number} {child.failure(code, log_file)}")
        result = _result(number, folder, run.args.leading_arm)
        note = f"held out: {100 * result.held_out_before:.1f} % to {100 * result.held_out_after:.1f} %"
        return {}, [Count("pairs", result.pairs, result.pairs, note=note)], {"folder": str(folder)}

    run.out.stage(f"rounds/{number}", inputs, work)


def _began_on_servers(run: Run) -> bool:
    """Whether `engine: {kind: auto}` came to servers when the first round began."""
    return run.chosen is not None and bool((run.out.manifest.engine() or {}).get("program"))


def _hand_on_engine(run: Run, folder: Path) -> None:
    """Have the round in `folder` stay with the servers of the first: its commands it makes itself, as that did."""
    manifest, entered = Manifest(folder / "arte/manifest.json"), run.out.manifest.engine()
    if entered is not None and manifest.engine() is None:
        manifest.enter_engine(entered)


def _tuned(run: Run, before: Path, name: str) -> TrainedStudent:
    """The student of that name as a round's leading arm left it; of several seeds, with the first."""
    stages = Manifest(before / "arte/manifest.json").stages()
    arm = run.args.leading_arm
    training = next(one for one in trainings(run.args) if one.student.name == name and one.arm == arm)
    return TrainedStudent(**stages[training.stage].result)


def _merge_student(student: TrainedStudent, target: Path) -> None:
    """In float32: what loads it rounds it once."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(student.model, dtype="float32", **student.at_revision())
    merged = PeftModel.from_pretrained(model, student.adapter).merge_and_unload()
    merged.save_pretrained(target)
    AutoTokenizer.from_pretrained(student.adapter).save_pretrained(target)


def _result(number: int, folder: Path, arm: str) -> RoundResult:
    report = json.loads((folder / "arte" / STAGES["evaluate"] / "results.json").read_text(encoding="utf-8"))
    pairs = Manifest(folder / "arte/manifest.json").stages()["align"].counts[0].kept
    held_out, test = ([Result(**row) for row in report[key]] for key in ("held_out", "results"))
    return RoundResult(
        number, str(folder), pairs,
        _accuracy(held_out, "base"), _accuracy(held_out, arm), _accuracy(test, "base"), _accuracy(test, arm),
    )  # fmt: skip


def _accuracy(results: Sequence[Result], arm: str) -> float:
    return fmean(row.accuracy for row in results if row.arm == arm)
