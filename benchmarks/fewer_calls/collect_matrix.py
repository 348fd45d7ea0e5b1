"""Put the probes of a finished `collect.yaml` into `matrix.jsonl`, with the likelihoods of the same cells.

axolotl preprocess benchmarks/fewer_calls/collect.yaml && python benchmarks/fewer_calls/collect_matrix.py

Only ids, outcomes and numbers are kept. The likelihoods are asked for here, by the code of `probe.score`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.probe import ProbeArgs
from arte_plugin.data.tasks import Task, load_task
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, read_rows
from arte_plugin.run.folder import RunFolder
from arte_plugin.stages.likelihood import weigh
from matrix import MATRIX, QUESTIONS

CONFIG = Path(__file__).with_name("collect.yaml")


class Collected:
    """The run of `collect.yaml`."""

    def __init__(self) -> None:
        self.cfg: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
        self.args = ArteArgs.model_validate(self.cfg["arte"])
        self.out = RunFolder(Path(self.cfg["output_dir"]) / "arte", self.args.engine.rank_timeout)
        self.tasks = [load_task(task, self.args.seed) for task in self.args.tasks]
        self.drafts = read_rows(self.out.file("elicit", "drafts.jsonl"), Draft)
        self.preference_set = read_rows(self.out.file("preference-set", "preference_set.jsonl"), PreferenceQuestion)

    def of(self, task: Task) -> tuple[list[Draft], list[PreferenceQuestion]]:
        """A task's drafts and preference questions."""
        return (
            [draft for draft in self.drafts if draft.task == task.name],
            [question for question in self.preference_set if question.task == task.name],
        )

    def student(self, cache: RequestCache) -> Model:
        """The run's only student."""
        return student_model(self.args.students[0], self.args, self.cfg, cache)


def main() -> None:
    """Write the matrix."""
    run = Collected()
    cells: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for probe in read_rows(run.out.file("probe", "probes.jsonl"), Probe):
        cells.setdefault((probe.task, probe.draft_id), {})[probe.preference_id] = [probe.outcome]
    student = run.student(RequestCache(run.out.path / "requests.sqlite"))
    for score in ("likelihood", "likelihood_without_rationale"):
        settings = ProbeArgs(**{**run.args.probe.model_dump(), "score": score})
        for task in run.tasks:
            for row in weigh(task, *run.of(task), student, settings):
                cells[row.task, row.draft_id][row.preference_id].append(round(row.log_probability, 3))
    settings = ProbeArgs(**{**run.args.probe.model_dump(), "score": "likelihood"})
    for task in run.tasks:
        drafts, questions = run.of(task)
        if task.args.answer == "boolean":
            # The wrong answer's likelihood too: to see whether the right one's share of both says more.
            turned = [replace(one, target="False" if one.target == "True" else "True") for one in questions]
            for row in weigh(task, drafts, turned, student, settings):
                cells[row.task, row.draft_id][row.preference_id].append(round(row.log_probability, 3))
    student.close()
    _write(
        MATRIX,
        [
            {
                "task": draft.task,
                "draft_id": draft.draft_id,
                "question_id": draft.question_id,
                "cells": cells[draft.task, draft.draft_id],
            }
            for draft in run.drafts
        ],
    )
    _write(
        QUESTIONS,
        [
            {"task": one.task, "preference_id": one.preference_id, "discrimination": one.discrimination}
            for one in run.preference_set
        ],
    )


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
