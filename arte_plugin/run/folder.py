"""The folder of one run: where its files lie, and how a stage is skipped, run, written and recorded."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arte_plugin import ranks, versions
from arte_plugin.models import memory
from arte_plugin.models.kept import KeptEngine
from arte_plugin.models.model import Model, Usage
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Dropped, write_rows, write_text
from arte_plugin.run.manifest import Count, Manifest, StageRecord, count_rows, hash_of
from arte_plugin.show.tables import duration
from arte_plugin.stages import STAGES

LOG = logging.getLogger(LOGGER)

#: What a stage hands over to be written: rows or text by file, counts, and results for later stages.
Files = dict[Path, Sequence[object] | str]
Made = tuple[Files, list[Count], dict[str, Any]]


class RunFolder:
    """`OUTPUT_DIR/arte`: one folder a stage, and the manifest of what is finished."""

    def __init__(self, path: Path, rank_timeout: float):
        self.path = path
        self.manifest = Manifest(path / "manifest.json")
        self._rank_timeout = rank_timeout
        self._kept = KeptEngine()
        #: The stage whose model is kept, and what the GPUs held before it was loaded, in bytes.
        self._kept_by = ""
        self._before: dict[str, int] = {}

    def file(self, stage: str, name: str) -> Path:
        """A file of a stage's folder."""
        return self.path / STAGES[stage] / name

    def stage(
        self, name: str, inputs: Mapping[str, Any], work: Callable[[], Made], models: Sequence[Model] = (),
        peaks: Callable[[], Mapping[str, int]] = dict,
    ) -> StageRecord:  # fmt: skip
        """Do `work`, write what it made and enter it in the manifest, unless that is done for the same `inputs`.

        The versions of the stage's code (`versions`) count among these.

        The first rank writes; the others wait until it has. `models` are closed in any case, but the last one may stay
        loaded, until a stage begins that does not ask it (`close`). `peaks` tells, once the work is done, what a child
        process took of the GPU's memory.
        """
        inputs = versions.stage_inputs(name, inputs)
        inputs_hash = hash_of(inputs)
        if self.manifest.finished(name, inputs_hash):
            LOG.info("%s is done already", name)
            return self.manifest.stages()[name]
        LOG.info("%s", name)
        started = time.monotonic()
        self._end_kept([model.key for model in models])
        stayed = self._kept.holds
        for model in models:
            model.kept = self._kept
        meter = memory.Meter()
        try:
            files, counts, result = work()
        except BaseException:
            for model in models:
                model.close()
            self._kept.close()
            meter.stop()
            raise
        for model in models:
            model.close()
        used = meter.stop()
        if used and stayed:
            used |= self._before
        if self._kept.holds:
            # What is given back is known once it is gone.
            self._kept_by = name
            self._before = {key: used[key] for key in memory.BEFORE if key in used} or self._before
            used = {key: value for key, value in used.items() if key not in (*memory.BEFORE, *memory.AFTER)}
        memory.check_given_back(name, used)
        if ranks.is_first():
            self.overwrites(name)
            for path, content in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, str):
                    write_text(path, content)
                else:
                    write_rows(path, content)
            usage = _sum_usage([model.usage for model in models])
            loaded = {model.name: model.loaded for model in models if model.loaded}
            self.manifest.record(
                name, inputs, counts, usage, time.monotonic() - started, result, peaks() or used, loaded
            )
        self.wait_for(name, inputs_hash)
        record = self.manifest.stages()[name]
        if ranks.is_first():
            made = "; ".join(f"{count.kept} of {count.made} {count.what}" for count in record.counts)
            LOG.info("%s finished in %s: %s", name, duration(record.seconds), made)
        return record

    def close(self) -> None:
        """End the model that stayed loaded, if one did: the GPU is needed for something else."""
        self._end_kept(())

    def _end_kept(self, keys: Sequence[str]) -> None:
        """`close`, unless it is one of `keys`; then say what its stage has given back."""
        if not self._kept.holds:
            return
        self._kept.keep_only(keys)
        if self._kept.holds:
            return
        if used := memory.given_back(self._before):
            memory.check_given_back(self._kept_by, used)
            if ranks.is_first():
                self.manifest.amend_memory(self._kept_by, used)

    def overwrites(self, name: str) -> None:
        """Take a stage out of the manifest before its first file is replaced.

        Killed between its files and its entry, and with its YAML put back, it would else count as done for the entry
        of before, over the files of the other YAML.
        """
        self.manifest.forget(name)

    def write_as_made(self, name: str, path: Path, rows: Iterable[object]) -> None:
        """Write a stage's rows that are too many to be held; other ranks than the first make theirs, and write none."""
        if ranks.is_first():
            self.overwrites(name)
            write_rows(path, rows)
        else:
            deque(rows, maxlen=0)

    def wait_for(self, name: str, inputs_hash: str) -> None:
        """On other ranks than the first: until that one has entered the stage."""
        if not ranks.is_first():
            done = lambda: int(self.manifest.finished(name, inputs_hash))  # noqa: E731
            ranks.wait_until(done, 1, self._rank_timeout, f"rank 0 to finish {name}")


def _sum_usage(usages: Sequence[Usage]) -> dict[str, float]:
    total: dict[str, float] = {}
    for usage in usages:
        for key, value in asdict(usage).items():
            total[key] = round(total.get(key, 0) + value, 1)
    return total


def question_count(kept: int, wanted: int, dropped: Sequence[Dropped], held: Sequence[int], per_call: int) -> Count:
    """The count of written questions; says how many a reply `held`, and where they are fewer than were asked for."""
    notes = [f"{wanted - kept} fewer than asked for"] if kept < wanted else []
    if held:
        notes.append(f"{sum(held) / len(held):.1f} a reply, of {per_call} asked for")
    return count_rows("questions", kept, dropped, ", ".join(notes))
