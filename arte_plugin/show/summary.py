"""What a run shows at its end, and `arte status` shows again."""

import json
from pathlib import Path

from arte_plugin.config.arte import ArteArgs
from arte_plugin.run.earlier_config import outdated, stage_of
from arte_plugin.run.manifest import Manifest
from arte_plugin.show.alignment import CHECK
from arte_plugin.show.rounds import round_lines
from arte_plugin.show.tables import format_table, stage_table
from arte_plugin.stages import STAGES
from arte_plugin.stages.near_duplicates import near_lines, none_found
from arte_plugin.stages.order import IN_ORDER


def summary(folder: Path, args: ArteArgs | None = None) -> str:
    """The stage table of a run folder and, once they are there, the tables that the stages have to show.

    Students are those of `args`, or all that were ever trained there. Of stages that were made from something else than
    what lies there now, the table says so, and what they found is left out.
    """
    stages = Manifest(folder / "manifest.json").stages()
    if args is not None:
        # The manifest remembers the students of earlier versions of the YAML too.
        entries = {stage.name: stage.entries(args) for stage in IN_ORDER}
        stages = {name: row for name, row in stages.items() if name in entries.get(stage_of(name), {name})}
        # With `from_run` the check is that run's; one from before it was asked for is of another teacher.
        if not args.align.check or args.from_run:
            stages.pop(CHECK, None)
    if not stages:
        return f"Nothing has been run in {folder} yet."
    old = outdated(folder, stages, args)
    known = {name.partition("/")[0] for name in stages}
    makes_drafts = args is not None and not (args.pair.drafts or args.from_run)
    asked = {stage.name for stage in IN_ORDER if args is not None and stage.asked(args, makes_drafts)}
    rare = {stage.name for stage in IN_ORDER if stage.rare}
    order = [name for name in STAGES if name in known | asked or name not in rare]
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
