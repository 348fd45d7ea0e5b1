"""What a run folder holds of each task, as strategies read it (`plugs.Evidence`): files are read, nobody is asked."""

import json
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from arte_plugin.data.tasks import Task
from arte_plugin.errors import StageError
from arte_plugin.plugs import Evidence
from arte_plugin.rows import (
    Attempt,
    Draft,
    Dropped,
    Measure,
    PreferencePair,
    PreferenceQuestion,
    Probe,
    Response,
    Score,
    TailoredExample,
    read_rows,
)
from arte_plugin.stages import STAGES
from arte_plugin.stages.probing import preference_scores

Row = TypeVar("Row")


class NobodyAsked:
    """`plugs.Asking` where no model is at hand: chance as in the run, and a refusal to ask."""

    stage = "diagnose"

    def __init__(self, seed: int):
        self.seed = seed

    def rng(self, *parts: str) -> random.Random:
        """The same as in a stage that asks."""
        return random.Random("/".join([str(self.seed), *parts]))

    def __getattr__(self, name: str) -> NoReturn:
        raise StageError(
            f"What asks a model (`{name}`) is part of a run: name it in `arte.diagnostics` and run `axolotl train` on "
            "the YAML, which goes on where the run ended."
        )


@dataclass
class RunFiles:
    """The rows of a run folder (`OUTPUT_DIR/arte`) by task; those of stages that aren't among `done` count as absent.

    `drafts` and `scores` may lie elsewhere. What is missing is empty, whatever the reason.
    """

    folder: Path
    done: Collection[str]
    arms: Sequence[str]
    drafts: Path | None = None
    scores: Path | None = None
    #: Of the students, whose scores are taken together as pairs are made of them (`Run.weights`).
    weights: Mapping[str, float] = field(default_factory=dict)
    _places: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def evidence(self, tasks: Sequence[Task]) -> dict[str, Evidence]:
        """What there is of each task, by its name; every file but the probes is read once."""
        responses = self._rows("preference-set", "responses.jsonl", Response)
        chosen = self._rows("preference-set", "preference_set.jsonl", PreferenceQuestion)
        drafts = _read(self.drafts, Draft) if self.drafts else self._rows("elicit", "drafts.jsonl", Draft)
        scores = _read(self.scores, Score) if self.scores else self._rows("probe", "scores.jsonl", Score)
        preferences = preference_scores(scores, self.weights) if scores else {}
        measures = self._rows("probe", "measures.jsonl", Measure)
        attempts = self._rows("probe", "attempts.jsonl", Attempt)
        pairs = self._rows("pair", "pairs.jsonl", PreferencePair)
        dropped = [row for name in self.done if name in STAGES for row in self._rows(name, "dropped.jsonl", Dropped)]
        examples = {
            arm: self._rows("regenerate", "tailored.jsonl" if arm == "arte" else f"{arm}.jsonl", TailoredExample)
            for arm in self.arms
        }
        reports = self.reports()
        return {
            task.name: Evidence(
                responses=_of(task, responses),
                drafts=_of(task, drafts),
                preference_set=_of(task, chosen),
                probes=partial(self._probes, task.name),
                measures=_of(task, measures),
                attempts=_of(task, attempts),
                scores={row.draft_id: preferences[row.draft_id] for row in _of(task, scores)},
                examples={arm: of_task for arm, rows in examples.items() if (of_task := _of(task, rows))},
                pairs=_of(task, pairs),
                dropped=_of(task, dropped),
                reports=reports,
            )
            for task in tasks
        }

    def reports(self) -> dict[str, Any]:
        """What stages have found, by their names; `align-check/rationales` are the rows behind the check."""
        from arte_plugin.show.alignment import alignment_report
        from arte_plugin.stages.set_consistency import preference_set_report

        found: dict[str, Any] = {}
        if "evaluate" in self.done:
            found["evaluate"] = self._json("evaluate", "results.json")
            # With `from_run`, that run's check.
            found["align-check"] = found["evaluate"].get("alignment") or {}
        if "preference-set" in self.done:
            found["preference-set"] = preference_set_report(self.folder)
        if "pair" in self.done:
            found["pair"] = self._json("pair", "gaps.json")
        if "align-check" in self.done:
            found["align-check"] = alignment_report(self.folder)
            file = self.folder / STAGES["align-check"] / "rationales.jsonl"
            if found["align-check"] and file.is_file():
                lines = file.read_text(encoding="utf-8").split("\n")
                found["align-check/rationales"] = [json.loads(line) for line in lines if line]
        return {name: report for name, report in found.items() if report}

    def _json(self, stage: str, name: str) -> Any:
        file = self.folder / STAGES[stage] / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def _rows(self, stage: str, name: str, kind: type[Row]) -> list[Row]:
        return _read(self.folder / STAGES[stage] / name, kind) if stage in self.done else []

    def _probes(self, task: str) -> Iterator[Probe]:
        """Those of one task, without reading those of the others each time: they are many."""
        file = self.folder / STAGES["probe"] / "probes.jsonl"
        if "probe" not in self.done or not file.is_file():
            return
        if not self._places:
            self._places = _places(file)
        with file.open("rb") as rows:
            for begin, end in self._places.get(task, ()):
                rows.seek(begin)
                while rows.tell() < end:
                    values = json.loads(rows.readline())
                    yield Probe(**{key: value for key, value in values.items() if key in _PROBE})


_PROBE = frozenset(Probe.__dataclass_fields__)


def _places(file: Path) -> dict[str, list[tuple[int, int]]]:
    """By task the parts of a file of rows, in bytes, that hold its rows; they come task by task."""
    found: dict[str, list[tuple[int, int]]] = {}
    at, last = 0, None
    with file.open("rb") as rows:
        for line in rows:
            task, end = json.loads(line)["task"], at + len(line)
            of_task = found.setdefault(task, [])
            if task == last:
                of_task[-1] = (of_task[-1][0], end)
            else:
                of_task.append((at, end))
            at, last = end, task
    return found


def _read(file: Path, kind: type[Row]) -> list[Row]:
    return read_rows(file, kind) if file.is_file() else []


def _of(task: Task, rows: Iterable[Any]) -> list[Any]:
    return [row for row in rows if row.task == task.name]
