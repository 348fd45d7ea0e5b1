"""What stage 6's planners and selectors may read of the stages before it, and what of it is among the inputs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from arte_plugin.plugs import Evidence
from arte_plugin.run.evidence import RunFiles
from arte_plugin.run.manifest import hash_file

if TYPE_CHECKING:
    from arte_plugin.run.run import Run

#: The files by their stages. What later stages have left in the folder has no say.
_FILES = {
    "elicit": ("drafts.jsonl",),
    "preference-set": ("responses.jsonl", "preference_set.jsonl"),
    "probe": ("probes.jsonl", "scores.jsonl", "measures.jsonl", "attempts.jsonl"),
    "pair": ("pairs.jsonl",),
}


def of_tasks(run: "Run") -> dict[str, Evidence]:
    """By task; scores are the weighted mean of the students', as pairs were made of them."""
    drafts, scores = run.scored_drafts()
    done = [stage for stage in _FILES if stage in run.out.manifest.stages()]
    return RunFiles(run.out.path, done, (), drafts, scores, run.weights).evidence(run.tasks)


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
