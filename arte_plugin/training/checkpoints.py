"""Which of the teacher's checkpoints an interrupted training goes on from: its own, never another config's."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from arte_plugin import ranks
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import write_text
from arte_plugin.training.aligned_weights import last_checkpoint

LOG = logging.getLogger(LOGGER)

#: In the run's folder: where checkpoints are put that belong to other pairs or another config.
ASIDE = "other-checkpoints"

_STARTED = "align-started.json"


def forget(folder: Path) -> None:
    """Whatever checkpoints there are belong to somebody else."""
    (folder / _STARTED).unlink(missing_ok=True)


def resume(cfg: Any, output_dir: Path, folder: Path, inputs_hash: str, trusted: bool = True) -> None:
    """Set `resume_from_checkpoint` where `output_dir` has a checkpoint of a training of these inputs.

    `folder` is the run's own; what was started last is noted there. A training of other inputs leaves its checkpoints
    in the same place, and their numbers say nothing: they are put aside before the note is changed. So whoever finds
    the note finds its checkpoints only, wherever a run was killed. Without `trusted` the note says nothing.
    """
    started = folder / _STARTED
    same = (
        trusted
        and started.is_file()
        and json.loads(started.read_text(encoding="utf-8")).get("inputs_hash") == inputs_hash
    )
    if same:
        checkpoint = last_checkpoint(output_dir)
        if checkpoint and not cfg.get("resume_from_checkpoint"):
            LOG.info("the teacher's training goes on from %s", checkpoint)
            cfg["resume_from_checkpoint"] = str(checkpoint)
        return
    if cfg.get("auto_resume_from_checkpoints"):
        # On every rank: the first may not have put them aside yet.
        cfg["auto_resume_from_checkpoints"] = False
    if ranks.is_first():
        _put_aside(output_dir, folder / ASIDE, inputs_hash, named=cfg.get("resume_from_checkpoint"))
        folder.mkdir(parents=True, exist_ok=True)
        write_text(started, json.dumps({"inputs_hash": inputs_hash}) + "\n")


def _put_aside(output_dir: Path, aside: Path, inputs_hash: str, named: str | None) -> None:
    """Move all checkpoints but the `named` one; only those of one config are kept, for they may be large."""
    kept = Path(named).resolve() if named else None
    found = [path for path in output_dir.glob("checkpoint-*") if path.is_dir() and path.resolve() != kept]
    if not found:
        return
    target = aside / f"before-{inputs_hash[:12]}"
    target.mkdir(parents=True, exist_ok=True)
    for older in aside.iterdir():
        if older != target:
            shutil.rmtree(older)
    for path in found:
        # Left by a run that was killed right here, and that has made it anew since.
        shutil.rmtree(target / path.name, ignore_errors=True)
        path.rename(target / path.name)
    LOG.warning(
        "%d checkpoint%s in %s of other pairs or another config: put into %s; the teacher's training starts anew",
        len(found), "" if len(found) == 1 else "s", output_dir, target,
    )  # fmt: skip
