"""Finished stages that were made from something else than what lies in the run folder now.

A stage that is made anew writes over its files at once, while those behind it keep theirs until the run comes to them.
Until then what they found is not of this config, and must not be shown as if it were.
"""

from collections.abc import Mapping
from pathlib import Path

from arte_plugin.config.arte import ArteArgs
from arte_plugin.run.manifest import StageRecord
from arte_plugin.stages.order import IN_ORDER

#: What depends on a stage and is none itself: later rounds.
_ROUNDS = {"rounds": ("evaluate",)}


def outdated(folder: Path, stages: Mapping[str, StageRecord], args: ArteArgs | None = None) -> set[str]:
    """The names among `stages`, those of a run folder, whose inputs are not what lies there now, or are outdated.

    What can't be compared, such as a file that somebody has taken away, counts as the same. `args` tell whether drafts
    and pairs are this run's own.
    """
    elsewhere = args is not None and bool(args.pair.drafts or args.from_run)
    known = {stage.name: stage for stage in IN_ORDER}
    behind = {stage.name: stage.behind for stage in IN_ORDER} | _ROUNDS
    found: set[str] = set()
    for kind in behind:
        stage = known.get(kind)
        if elsewhere and stage and args is not None and not stage.asked(args, makes_drafts=False):
            # Left from before the config took its drafts from elsewhere, or of files that are not in this folder.
            continue
        before = {stage_of(name) for name in found}
        for name in (name for name in stages if stage_of(name) == kind):
            if before & {*behind[kind]} or (stage and any(stage.differences(stages[name], folder, stages, elsewhere))):
                found.add(name)
    return found


def stage_of(name: str) -> str:
    """The stage that an entry of the manifest is of: `sft/ARM` is one of `sft`, and `rounds/2` one of `rounds`."""
    return name if any(name == stage.name for stage in IN_ORDER) else name.partition("/")[0]
