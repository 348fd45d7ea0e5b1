"""Examples of earlier rounds that a later one trains on too (`keep_examples`; LLM2LLM, arXiv 2403.15042)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from arte_plugin.data.same_question import comparable
from arte_plugin.data.tasks import Task
from arte_plugin.rows import TailoredExample, read_rows
from arte_plugin.run.manifest import hash_file
from arte_plugin.stages import STAGES


def kept_file(arm: str, folder: Path) -> Path:
    """What an arm was trained on in the round whose output folder it is: all that was kept until then, and its own."""
    return folder / "arte" / STAGES["regenerate"] / ("tailored.jsonl" if arm == "arte" else f"{arm}.jsonl")


def hashes_of_kept(arms: Sequence[str], folder: Path) -> dict[str, str]:
    """What a stage that keeps these examples depends on."""
    return {arm: hash_file(kept_file(arm, folder)) for arm in arms}


def read_kept(arms: Sequence[str], folder: Path) -> dict[str, list[TailoredExample]]:
    """The examples by arm. Raises `DataError` where a file is missing or broken."""
    return {arm: read_rows(kept_file(arm, folder), TailoredExample) for arm in arms}


def with_kept_taken(tasks: Sequence[Task], kept: Mapping[str, Sequence[TailoredExample]]) -> list[Task]:
    """The tasks, with the kept questions among those that no new one may repeat."""
    return [
        replace(
            task,
            elsewhere={
                **{comparable(row.question): "kept" for rows in kept.values() for row in rows if row.task == task.name},
                **task.elsewhere,
            },
        )
        for task in tasks
    ]
