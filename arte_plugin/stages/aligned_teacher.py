"""The teacher of stage 5, as the stages behind it ask it."""

from typing import TYPE_CHECKING

from arte_plugin.errors import StageError
from arte_plugin.models.model import Model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.training import aligned_weights

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


def aligned_teacher(run: "Run") -> Model:
    """The teacher of stage 5, whole. Raises `StageError` where it is not there."""
    if not run.aligned():
        why = f" {run.not_aligned}" if run.not_aligned else ""
        raise StageError(
            f"The teacher in {run.output_dir} is not aligned yet: run `axolotl train` on this YAML first.{why}"
        )
    if run.source is not None:
        run.record_source(run.source)
    aligned_weights.make_whole(run.aligned_dir, bool(run.cfg.get("adapter")), run.args.engine.rank_timeout)
    run.enter_weights()
    return teacher_model(run.cfg, run.args, run.cache, run.aligned_dir)
