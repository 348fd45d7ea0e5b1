"""Which students are fine-tuned in stage 7: one for each student of the YAML, arm and seed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.run.manifest import Manifest, StageRecord


@dataclass(frozen=True, eq=False)
class Training:
    """One fine-tuning."""

    student: StudentArgs
    arm: str
    seed: int
    #: `ARM`, or `STUDENT/ARM/seed-N` with the parts of which there are several; names folders and files.
    label: str

    @property
    def stage(self) -> str:
        """Its name in the manifest."""
        return "sft" if self.label == "arte" else f"sft/{self.label}"

    @property
    def folder(self) -> str:
        """Its folder in that of stage 7."""
        return "" if self.label == "arte" else self.label


def trainings(args: ArteArgs) -> Iterator[Training]:
    """All of them: by student, by arm, by seed."""
    for student in args.students:
        for arm in args.combinations:
            for seed in args.seeds or [args.seed]:
                parts = [student.name] if len(args.students) > 1 else []
                parts.append(arm)
                parts += [f"seed-{seed}"] if args.seeds else []
                yield Training(student, arm, seed, "/".join(parts))


def lodges(stages: Mapping[str, StageRecord], name: str, folder: Path) -> str:
    """Another training whose folder the student of the training `name` lies in, by its stage; empty where none is.

    Arms with the same examples have one student, which lies in the folder of the first of them. `folder` is stage 7's.
    """
    if name not in stages:
        return ""
    result = stages[name].result
    student, folder = Path(result.get("adapter") or result["model"]), folder.absolute()
    if not student.is_relative_to(folder):
        # Of the run of `from_run`.
        return ""
    label = student.relative_to(folder).parent.as_posix()
    holder = "sft" if label == "." else f"sft/{label}"
    return "" if holder == name else holder


def is_trained_over(stages: Mapping[str, StageRecord], name: str, folder: Path) -> bool:
    """Whether the training `name` is done, but by a student in another one's folder where by now another student lies.

    `folder` is stage 7's.
    """
    holder = lodges(stages, name, folder)
    return bool(holder) and (holder not in stages or stages[holder].inputs_hash != stages[name].inputs_hash)


#: Where the result of the evaluation has the trainings that it looked at: their inputs' hashes, by stage.
TRAINED = "trained"


def enter_trainings(manifest: Manifest, names: Iterable[str]) -> None:
    """Enter with the evaluation, which has just been found done, the trainings (`names`) that it is one of."""
    stages = manifest.stages()
    trained = {name: stages[name].inputs_hash for name in names}
    if stages["evaluate"].result.get(TRAINED) != trained:
        manifest.amend("evaluate", {TRAINED: trained})
