"""What a run shows at its end, and `arte status` shows again."""

import json
from pathlib import Path

from arte_plugin.config.arte import ArteArgs
from arte_plugin.run.earlier_config import outdated
from arte_plugin.run.manifest import Manifest
from arte_plugin.run.trainings import trainings
from arte_plugin.show.alignment import CHECK
from arte_plugin.show.rounds import round_lines
from arte_plugin.show.tables import format_table, stage_table
from arte_plugin.stages import STAGES
from arte_plugin.stages.diagnose import NAME as DIAGNOSE
from arte_plugin.stages.near_duplicates import near_lines, none_found
from arte_plugin.stages.order import IN_ORDER
from arte_plugin.stages.student_dpo import StudentDpo, dpo_trainings, stage_of


def summary(folder: Path, args: ArteArgs | None = None) -> str:
    """The stage table of a run folder and, once they are there, the tables that the stages have to show.

    Students are those of `args`, or all that were ever trained there. Of stages that were made from something else than
    what lies there now, the table says so, and what they found is left out.
    """
    stages = Manifest(folder / "manifest.json").stages()
    if args is not None:
        # The manifest remembers the students of earlier versions of the YAML too.
        wanted = {training.stage for training in trainings(args)} | {stage_of(one) for one in dpo_trainings(args)}
        # With `from_run` the check is that run's; one from before it was asked for is of another teacher.
        if not args.align.check or args.from_run:
            stages.pop(CHECK, None)
        trained = ("sft", StudentDpo.name)
        stages = {name: row for name, row in stages.items() if name.partition("/")[0] not in trained or name in wanted}
    if not stages:
        return f"Nothing has been run in {folder} yet."
    old = outdated(folder, stages, args)
    # Stages that few runs have are named where they have been, or are asked for.
    mains = {name.partition("/")[0] for name in stages}
    if args is not None:
        mains |= {DIAGNOSE} if args.diagnostics else set()
        mains |= {StudentDpo.name} if any(student.dpo for student in args.students) else set()
    order = [name for name in STAGES if name not in (DIAGNOSE, StudentDpo.name) or name in mains]
    table = stage_table(stages, [*order, "rounds"], old)
    shown = f"\n{folder}\n\n{table}\n"
    if near := near_lines(folder):
        shown += f"\n{format_table(near)}\n"
    elif none := none_found(folder):
        shown += f"\n{none}\n"
    shown += "".join(stage.shown(folder) for stage in IN_ORDER if stage.name in stages.keys() - old)
    rounds_shown = (args is None or args.rounds > 1) and "evaluate" not in old
    if rounds_shown and (file := folder / "rounds.json").is_file():
        rounds = json.loads(file.read_text(encoding="utf-8"))
        shown += f"\n{format_table(round_lines(rounds))}\n"
    return shown
