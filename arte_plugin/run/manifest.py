"""`manifest.json`: for each finished stage its inputs, counts, costs and versions; what a run looks at to go on."""

import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from arte_plugin.errors import StageError
from arte_plugin.rows import Dropped, write_text

VERSIONED = ("arte-plugin", "axolotl", "trl", "transformers", "peft", "torch", "lm_eval")
#: Of these, those of which a change is worth a word when a run goes on.
DECISIVE = ("arte-plugin", "axolotl", "trl", "transformers")


@dataclass
class Count:
    """What became of one kind of row in a stage."""

    what: str
    made: int
    kept: int
    #: How many went no further, by reason; they add up to `made - kept`.
    dropped: dict[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass
class StageRecord:
    """A finished stage."""

    inputs_hash: str
    inputs: dict[str, Any]
    counts: list[Count]
    #: Requests, how many of them a model answered, tokens, seconds of generation (`models.model.Usage`).
    usage: dict[str, float]
    seconds: float
    finished: str
    versions: dict[str, str]
    #: What later stages need to know of this one, such as the path of a trained student.
    result: dict[str, Any] = field(default_factory=dict)
    #: Bytes of the GPU's memory (`memory.Meter.stop`, or a child's peaks); empty where the stage used none.
    memory: dict[str, int] = field(default_factory=dict)
    #: What the models really were once loaded (`engines.base.Describes`), by name; those that were asked nothing are
    #: not there.
    loaded: dict[str, dict[str, Any]] = field(default_factory=dict)


class Manifest:
    """The manifest of one run folder, read anew at every question: another rank may have written it."""

    def __init__(self, path: Path):
        self.path = path

    def stages(self) -> dict[str, StageRecord]:
        """All finished stages by name. Raises `StageError` for a file that can't be read."""
        try:
            return {
                name: StageRecord(**{**record, "counts": [Count(**count) for count in record["counts"]]})
                for name, record in self._content()["stages"].items()
            }
        except (ValueError, KeyError, TypeError) as error:
            raise StageError(
                f"Can't read {self.path} ({error}). Move it away to start this run folder anew."
            ) from error

    def engine(self) -> dict[str, Any] | None:
        """What `engine: {kind: auto}` came to when the run began (`enter_engine`); None where nothing is entered."""
        return self._content().get("engine")

    def enter_engine(self, chosen: Mapping[str, Any]) -> None:
        """Enter the engine that the run stays with."""
        self._write(self.stages(), {"engine": dict(chosen)})

    def finished(self, name: str, inputs_hash: str) -> bool:
        """Whether the stage is done for these very inputs."""
        record = self.stages().get(name)
        return record is not None and record.inputs_hash == inputs_hash

    def record(
        self, name: str, inputs: Mapping[str, Any], counts: list[Count], usage: Mapping[str, float], seconds: float,
        result: Mapping[str, Any] | None = None, memory: Mapping[str, int] | None = None,
        loaded: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        """Enter a finished stage."""
        stages = self.stages()
        stages[name] = StageRecord(
            inputs_hash=hash_of(inputs),
            inputs=dict(inputs),
            counts=counts,
            usage=dict(usage),
            seconds=round(seconds, 1),
            finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            versions=_versions(),
            result=dict(result or {}),
            memory=dict(memory or {}),
            loaded=dict(loaded or {}),
        )
        self._write(stages)

    def amend(self, name: str, result: Mapping[str, Any]) -> None:
        """Add to the result of a finished stage."""
        stages = self.stages()
        stages[name].result |= result
        self._write(stages)

    def amend_memory(self, name: str, memory: Mapping[str, int]) -> None:
        """Add to what a finished stage is said to have taken of the GPU's memory."""
        stages = self.stages()
        stages[name].memory |= memory
        self._write(stages)

    def forget(self, name: str) -> None:
        """Take a stage out: it has to be done again."""
        stages = self.stages()
        if stages.pop(name, None) is not None:
            self._write(stages)

    def _content(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {"stages": {}}
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise StageError(
                f"Can't read {self.path} ({error}). Move it away to start this run folder anew."
            ) from error

    def _write(self, stages: Mapping[str, StageRecord], more: Mapping[str, Any] | None = None) -> None:
        entered = {stage: _as_entered(record) for stage, record in stages.items()}
        content = {"format": 1, **({"engine": engine} if (engine := self.engine()) else {}), **(more or {})}
        content["stages"] = entered
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _as_entered(record: StageRecord) -> dict[str, Any]:
    """Without what there is nothing to say about."""
    return {key: value for key, value in asdict(record).items() if value or key not in ("memory", "loaded")}


def upgraded(stages: Mapping[str, StageRecord]) -> str:
    """What finished stages were made with and is installed in another version now, in words; empty if nothing is.

    They count as done all the same: their inputs tell what has to be done again.
    """
    now = _versions()
    made: dict[str, list[str]] = {}
    for stage, record in stages.items():
        for name in DECISIVE:
            if (then := record.versions.get(name, now[name])) != now[name]:
                made.setdefault(f"{name} {then} (installed: {now[name]})", []).append(stage)
    return "; ".join(f"{what}: {', '.join(of_stages)}" for what, of_stages in made.items())


def count_rows(what: str, kept: int, dropped: Iterable[Dropped] = (), note: str = "") -> Count:
    """A count whose `made` is what was kept and what was dropped."""
    reasons = Counter(row.reason for row in dropped)
    return Count(what, kept + reasons.total(), kept, dict(sorted(reasons.items())), note)


def hash_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of `content`."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
