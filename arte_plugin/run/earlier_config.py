"""Finished stages that were made from something else than what lies in the run folder now.

A stage that is made anew writes over its files at once, while those behind it keep theirs until the run comes to them.
Until then what they found is not of this config, and must not be shown as if it were.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from arte_plugin.config.arte import ArteArgs
from arte_plugin.run.manifest import Manifest, StageRecord, hash_file
from arte_plugin.show.alignment import CHECK, is_of_teacher
from arte_plugin.stages import STAGES

#: The stages that each depends on as they are, besides files.
_BEHIND: dict[str, tuple[str, ...]] = {
    "preference-set": (),
    "probe": ("preference-set",),
    "probe/consistency": ("probe",),
    "pair": ("probe",),
    "align": ("pair",),
    CHECK: ("align",),
    "regenerate": ("align",),
    "sft": ("regenerate",),
    "evaluate": ("sft",),
    "rounds": ("evaluate",),
}

_DRAFTS = f"{STAGES['elicit']}/drafts.jsonl"
_SET = f"{STAGES['preference-set']}/preference_set.jsonl"
_SCORES = f"{STAGES['probe']}/scores.jsonl"
_PAIRS = f"{STAGES['pair']}/pairs.jsonl"

#: By stage, the files whose hashes are among its inputs, by the input's name.
_FILES = {
    "probe": {"drafts": _DRAFTS, "preference_set": _SET},
    "probe/consistency": {"drafts": _DRAFTS, "preference_set": _SET, "probes": f"{STAGES['probe']}/probes.jsonl"},
    "pair": {"drafts": _DRAFTS, "scores": _SCORES},
    "align": {"pairs": _PAIRS},
    CHECK: {
        "pairs": _PAIRS,
        "held_out": f"{STAGES['pair']}/held_out.jsonl",
        "drafts": _DRAFTS,
        "preference_set": _SET,
    },
    "regenerate": {"drafts": _DRAFTS, "scores": _SCORES},
}

#: Where the result of the evaluation has the trainings that it looked at: their inputs' hashes, by stage.
TRAINED = "trained"


def enter_trainings(manifest: Manifest, names: Iterable[str]) -> None:
    """Enter with the evaluation, which has just been found done, the trainings (`names`) that it is one of."""
    stages = manifest.stages()
    trained = {name: stages[name].inputs_hash for name in names}
    if stages["evaluate"].result.get(TRAINED) != trained:
        manifest.amend("evaluate", {TRAINED: trained})


def outdated(folder: Path, stages: Mapping[str, StageRecord], args: ArteArgs | None = None) -> set[str]:
    """The names among `stages`, those of a run folder, whose inputs are not what lies there now, or are outdated.

    What can't be compared, such as a file that somebody has taken away, counts as the same. `args` tell whether drafts
    and pairs are this run's own.
    """
    elsewhere = args is not None and bool(args.pair.drafts or args.from_run)
    found: set[str] = set()
    for stage, behind in _BEHIND.items():
        if elsewhere and stage in ("preference-set", "probe", "probe/consistency", "pair"):
            # Left from before the config took its drafts from elsewhere, or of files that are not in this folder.
            continue
        before = {_stage_of(name) for name in found}
        for name in (name for name in stages if _stage_of(name) == stage):
            if before & {*behind} or any(_differences(name, stage, folder, stages, elsewhere)):
                found.add(name)
    return found


def _stage_of(name: str) -> str:
    """`sft/ARM` is one of `sft`, and `rounds/2` one of `rounds`."""
    return name if name in _BEHIND else name.partition("/")[0]


def _differences(
    name: str, stage: str, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
) -> Iterator[bool]:
    """Of each input that can be compared, whether it differs."""
    record = stages[name]
    for key, file in _FILES.get(stage, {}).items():
        if not (elsewhere and file in (_DRAFTS, _SCORES, _SET)):
            yield _differs(record.inputs.get(key), folder / file)
    if stage == "preference-set":
        yield _differs(record.inputs.get("pilot", {}).get("drafts"), folder / _DRAFTS)
    if stage in (CHECK, "regenerate") and "align" in stages:
        yield not is_of_teacher(record, stages["align"])
    if stage == "sft" and (there := [*(folder / STAGES["regenerate"]).glob("*.jsonl")]):
        yield all(_differs(record.inputs.get("tailored"), file) for file in there)
    if stage == "evaluate":
        trained = record.result.get(TRAINED)
        if trained is None:
            # An earlier version has not entered them.
            of_sft = [one for other, one in stages.items() if other.partition("/")[0] == "sft"]
            yield any(one.finished > record.finished for one in of_sft)
        else:
            yield any(other not in stages or stages[other].inputs_hash != made for other, made in trained.items())
        if not elsewhere and "elicit" in stages:
            yield record.inputs.get("tasks") != stages["elicit"].inputs.get("tasks")


def _differs(then: str | None, file: Path) -> bool:
    return then is not None and file.is_file() and hash_file(file) != then
