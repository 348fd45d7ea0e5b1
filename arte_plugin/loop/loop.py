"""The loop: the stages in their order. Stage 5, the teacher's training, is Axolotl's own and lies between the two."""

import logging
from contextlib import closing

from arte_plugin import ranks
from arte_plugin.loop import after_training, before_training, check_alignment
from arte_plugin.models import memory
from arte_plugin.ranks import LOGGER
from arte_plugin.run import merging
from arte_plugin.run.manifest import upgraded
from arte_plugin.run.run import Run
from arte_plugin.show.alignment import alignment_report, require_change
from arte_plugin.show.prompt_report import special_string_lines

LOG = logging.getLogger(LOGGER)


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
        _until(run, last)


def require_change_of_source(run: Run) -> None:
    """Hold the check of `from_run`'s teacher, if there is such a run, against `align.require_change`."""
    if run.source is not None:
        report = alignment_report(run.source.folder)
        require_change(report, run.args.align.require_change, run.source.name)


def _until(run: Run, last: str) -> None:
    if ranks.is_first():
        for line in special_string_lines(run.asked, run.tasks):
            LOG.warning("%s", line)
    steps = {
        "elicit": before_training.elicit,
        "preference-set": before_training.preference_set,
        "probe": before_training.probe,
        "pair": before_training.pair,
    }
    if run.args.pair.drafts:
        steps = {"pair": before_training.pair}
    if run.source is not None:
        # There is nothing to align; an arm may still need drafts of a task that is new to that teacher.
        del steps["pair"]
        if not run.own_drafts:
            steps = {}
    for name, step in steps.items():
        step(run)
        if name == "elicit":
            before_training.worked_seeds(run)
        if name == "probe" and run.args.preference_set.consistency_questions:
            before_training.consistency(run)
        if name == last:
            break


def after_align(run: Run, last: str = "evaluate") -> None:
    """Run the stages after the teacher's training, up to and with `last`; the student is rank 0's business."""
    with closing(run.cache), closing(run.out):
        _after_align(run, last)


def _after_align(run: Run, last: str) -> None:
    merging.start_from_whole_teacher(run)
    # Where stage 1 was not this run's.
    before_training.worked_seeds(run)
    if run.args.align.check and run.source is None:
        check_alignment.align_check(run)
    if last == "align-check":
        return
    after_training.regenerate(run)
    if ranks.is_first() and last != "regenerate":
        after_training.sft(run)
        if last != "sft":
            after_training.evaluate(run)
