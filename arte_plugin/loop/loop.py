"""The loop: the stages in their order. Stage 5, the teacher's training, is Axolotl's own and lies between the two."""

import logging
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from arte_plugin import ranks
from arte_plugin.models import memory
from arte_plugin.plan.sizes import calls_of
from arte_plugin.ranks import LOGGER
from arte_plugin.run import merging
from arte_plugin.run.manifest import upgraded
from arte_plugin.run.run import Run, arte_args
from arte_plugin.show.alignment import alignment_report, require_change
from arte_plugin.show.prompt_report import special_string_lines
from arte_plugin.stages.order import AFTER_TRAINING, BEFORE_TRAINING, IN_ORDER
from arte_plugin.stages.stage import Stage

LOG = logging.getLogger(LOGGER)


def begin(cfg: Any, starts: bool = True) -> Run:
    """The run of Axolotl's config `cfg`.

    Raises `ConfigError` and `DataError` for what is wrong with it (`Run`) or with a stage's settings (`Stage.check`),
    before any model is loaded.
    """
    args = arte_args(cfg)
    for stage in IN_ORDER:
        stage.check(args)
    return Run(cfg, starts, calls_of)


def until(run: Run, last: str) -> None:
    """Run the stages before the teacher's training, up to and with `last`; skip what is done."""
    # However this ends: the teacher's training may take hours, and meanwhile one file holds all answers.
    with closing(run.cache), closing(run.out):
        require_change_of_source(run)
        memory.settle()
        if ranks.is_first() and (older := upgraded(run.out.manifest.stages())):
            LOG.warning("This run was begun with other versions; what is done is kept. %s", older)
        if ranks.is_first() and run.chosen is not None:
            LOG.info("%s", run.chosen.line())
        merging.start_from_whole_teacher(run)
        if ranks.is_first():
            for line in special_string_lines(run.asked, run.tasks):
                LOG.warning("%s", line)
        _walk(run, BEFORE_TRAINING, last)


def require_change_of_source(run: Run) -> None:
    """Hold the check of `from_run`'s teacher, if there is such a run, against `align.require_change`."""
    if run.source is not None:
        report = alignment_report(run.source.folder)
        require_change(report, run.args.align.require_change, run.source.name)


def after_align(run: Run, last: str = "") -> None:
    """Run the stages after the teacher's training, up to and with `last`; without, all of them."""
    with closing(run.cache), closing(run.out):
        merging.start_from_whole_teacher(run)
        _walk(run, AFTER_TRAINING, last)


def _walk(run: Run, stages: Sequence[Stage], last: str) -> None:
    """Those of `stages` that this run has, up to and with `last` and what is named after it."""
    names = [stage.name.partition("/")[0] for stage in stages]
    end = len(names) - names[::-1].index(last) if last in names else len(names)
    for stage in stages[:end]:
        if stage.asked(run.args, run.makes_drafts) and (ranks.is_first() or not stage.on_one_rank):
            stage.do(run)
