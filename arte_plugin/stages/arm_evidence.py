"""What stage 6's planners and selectors may read of the stages before it, and what of it is among the inputs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from arte_plugin.plugs import Evidence
from arte_plugin.rows import Score, read_rows
from arte_plugin.run.evidence import RunFiles
from arte_plugin.run.manifest import hash_file
from arte_plugin.stages.probing import preference_scores

if TYPE_CHECKING:
    from arte_plugin.run.run import Run

#: The files by their stages. What later stages have left in the folder has no say.
_FILES = {
    "elicit": ("drafts.jsonl",),
    "preference-set": ("responses.jsonl", "preference_set.jsonl"),
    "probe": ("probes.jsonl", "scores.jsonl", "attempts.jsonl"),
    "pair": ("pairs.jsonl",),
}


def of_tasks(run: "Run") -> dict[str, Evidence]:
    """By task; scores are the weighted mean of the students', as pairs were made of them."""
    drafts, scores = run.scored_drafts()
    done = [stage for stage in _FILES if stage in run.out.manifest.stages()]
    found = RunFiles(run.out.path, done, (), drafts, scores).evidence(run.tasks)
    scored = preference_scores(read_rows(scores, Score), run.weights) if scores.is_file() else {}
    return {
        name: replace(one, scores={row.draft_id: scored[row.draft_id] for row in one.drafts if row.draft_id in scored})
        for name, one in found.items()
    }


def hashes(run: "Run") -> Mapping[str, str]:
    """Of all those files that are there."""
    drafts, scores = run.scored_drafts()
    elsewhere = {"drafts.jsonl": drafts, "scores.jsonl": scores}
    done = run.out.manifest.stages()
    files = {
        name: elsewhere.get(name) or run.out.file(stage, name)
        for stage, names in _FILES.items()
        for name in names
        if stage in done or name in elsewhere
    }
    return {name: hash_file(file) for name, file in files.items() if file.is_file()}
