"""What the align check found, in words and as a table: for the stage table, the results and `arte status`."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from arte_plugin.errors import StageError
from arte_plugin.run.manifest import Manifest, StageRecord
from arte_plugin.stages import STAGES
from arte_plugin.training import weights_left

CHECK = "align-check"
FILE = "alignment.json"

#: Where the result of a stage has the files of the aligned teacher that it asked.
_CHECKED = "aligned"

#: A smaller share of changed rationales is hardly a change.
HARDLY = 0.1

_REMEDY = "raise the teacher's learning rate, or train longer"


def alignment_report(folder: Path) -> dict[str, Any]:
    """What the check of a run folder found (`05-align-check/alignment.json`).

    Empty where nothing was checked, or another teacher than the one that is there now.
    """
    file, stages = folder / STAGES[CHECK] / FILE, Manifest(folder / "manifest.json").stages()
    if CHECK not in stages or not file.is_file():
        return {}
    if "align" in stages and not is_of_teacher(stages[CHECK], stages["align"]):
        return {}
    return json.loads(file.read_text(encoding="utf-8"))


def alignment_report_of_source(folder: Path, name: str, fingerprints: Collection[str]) -> dict[str, Any]:
    """`alignment_report` of the run folder of `from_run`, which is called `name`, and under `from_run` what it is of.

    `fingerprints` are those of this run's students: the verdict there is that of other students' where it has others.
    """
    if not (report := alignment_report(folder)):
        return {}
    students = Manifest(folder / "manifest.json").stages()[CHECK].inputs.get("students", [])
    of = {
        "run": name,
        "students": [one["name"] for one in students],
        "other_students": [one["name"] for one in students if one["model"]["model"] not in fingerprints],
        "tasks": list(report["tasks"]),
    }
    return {**report, "from_run": of}


def enter_teacher(manifest: Manifest, stage: str = CHECK) -> None:
    """Enter with a stage, which has just been found done, what stage 5 left: it is that teacher that it asked."""
    stages = manifest.stages()
    weights = _weights(stages["align"]) if "align" in stages else None
    if weights is not None and stage in stages and stages[stage].result.get(_CHECKED) != weights:
        manifest.amend(stage, {_CHECKED: weights})


def is_of_teacher(stage: StageRecord, align: StageRecord) -> bool:
    """Whether a stage asked the teacher that stage 5 left, be it trained again since: the weights tell."""
    then, now = stage.result.get(_CHECKED), _weights(align)
    if then is None or now is None:
        # An earlier version has not entered them.
        return align.finished <= stage.finished
    return then == now


def _weights(align: StageRecord) -> dict[str, str] | None:
    return align.result.get(weights_left.KEY, {}).get("files")


def verdict(report: Mapping[str, Any]) -> str:
    """One line: what changed, and whether the student likes it."""
    rationales, replies = report["rationales"], report["replies"]
    if not rationales["n"]:
        reasons = [task["skipped"] for task in report["tasks"].values() if task.get("skipped")]
        return f"not checked: {reasons[0] if reasons else 'no question'}"
    if not rationales["changed"]:
        what = "hardly any evidence" if replies["changed"] else "no evidence"
        return f"{what} that the teacher changed ({_of(rationales)} rationales, {_of(replies)} replies): {_REMEDY}"
    said = f"{max(100 * rationales['share'], 1):.0f} % of rationales changed"
    if rationales["share"] < HARDLY:
        said = f"only {said}: {_REMEDY}"
    found = report["liking"]
    if "skipped" in found:
        return f"{said}; not asked whether the student likes them ({found['skipped']})"
    score = found["score"]
    points = f"{_points(score['difference'])} points ({_points(score['low'])} to {_points(score['high'])})"
    if found.get("preference_set") == "unknown":
        # Which speaks for the teacher: its pairs were chosen for what helps on just these.
        points += "; the questions asked may be those that decided which drafts were chosen"
    if score["low"] > 0:
        return f"{said}, liked {points}"
    if score["high"] < 0:
        return f"{said}, and the student likes them less: {points}"
    return f"{said}, but nothing shows that the student likes them better: {points}"


def require_change(report: Mapping[str, Any], wanted: float | None, source: str = "") -> None:
    """Raises `StageError` where fewer of the teacher's rationales than `wanted` (a share) changed, or nobody looked.

    `source` names the run that the teacher comes from, and its check with it, where that is another one.
    """
    if wanted is None:
        return
    if not report and source:
        raise StageError(
            f"`arte.align.require_change` is {wanted:g}, and there is no check of the teacher of {source}: run "
            "`arte align-check` there, with that run's YAML, or take `require_change` out."
        )
    if not report:
        raise StageError(
            f"`arte.align.require_change` is {wanted:g}, and the check that was made is of another teacher than this "
            f"one, or {STAGES[CHECK]}/{FILE} is gone. Take the entry `{CHECK}` out of the run's manifest.json and "
            "start again: the teacher is checked anew."
        )
    rationales = report["rationales"]
    if not rationales["n"] or rationales["share"] < wanted:
        anew = "The teacher is trained anew when its keys in the YAML change (`learning_rate`, `num_epochs`)"
        remedy = "Name another run in `from_run`" if source else anew
        raise StageError(
            f"`arte.align.require_change` is {wanted:g}, and of {rationales['n']} rationales the "
            f"{f'teacher of {source}' if source else 'aligned teacher'} writes {rationales['changed']} otherwise than "
            f"before: {verdict(report)}. {remedy}; to go on with this one, take `require_change` out."
        )


def remarks(report: Mapping[str, Any]) -> list[str]:
    """The verdict, and what could not be measured, one line each."""
    said = [f"alignment{_of_source(report['from_run']) if 'from_run' in report else ''}: {report['verdict']}"]
    said += [f"{name}: not checked: {task['skipped']}" for name, task in report["tasks"].items() if task.get("skipped")]
    said += [f"reward accuracy: {report['rewards'][key]}" for key in ("not_measured", "none_held_out")
             if report["rewards"].get(key)]  # fmt: skip
    return said


def _of_source(of: Mapping[str, Any]) -> str:
    """Whose verdict it is, where it is none on this run's own teacher, student and tasks."""
    students = ", ".join(
        f"{name} (not a student of this run)" if name in of["other_students"] else name for name in of["students"]
    )
    return f", as checked in {of['run']}{students and f' with {students}'} on {', '.join(of['tasks'])}"


def _of(found: Mapping[str, Any]) -> str:
    return f"{found['changed']} of {found['n']}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
