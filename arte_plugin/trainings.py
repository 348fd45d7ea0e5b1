"""Which students are fine-tuned in stage 7: one for each student of the YAML, arm and seed."""

from collections.abc import Iterator
from dataclasses import dataclass

from arte_plugin.args import Arm, ArteArgs, StudentArgs


@dataclass(frozen=True, eq=False)
class Training:
    """One fine-tuning."""

    student: StudentArgs
    arm: Arm
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
        for arm in args.arms:
            for seed in args.seeds or [args.seed]:
                parts = [student.name] if len(args.students) > 1 else []
                parts.append(arm)
                parts += [f"seed-{seed}"] if args.seeds else []
                yield Training(student, arm, seed, "/".join(parts))
