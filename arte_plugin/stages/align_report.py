"""What the align check found, put together: for `alignment.json` and the stage table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arte_plugin.rows import Probe
from arte_plugin.run.manifest import Count
from arte_plugin.show.alignment import verdict
from arte_plugin.stages import before_after as stage


@dataclass
class OfTask:
    """What both teachers wrote for a task."""

    rows: list[stage.Rewritten] = field(default_factory=list)
    replies_changed: int = 0
    replies: int = 0
    repeats: int = 0
    skipped: str = ""


@dataclass
class Liked:
    """What the students made of the rationales: their answers by task and student, or why there are none."""

    answers: dict[str, list[stage.Answers]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def whole_report(
    of_task: Mapping[str, OfTask], weighed: Sequence[stage.Weighed], liked: Liked, students: Sequence[str],
    weights: Mapping[str, float], seed: int, *, served: bool, set_known: bool,
) -> dict[str, Any]:  # fmt: skip
    """All of it with the verdict, ready for JSON; `weights` are the students' in a draft's score, by name."""
    rows = [row for one in of_task.values() for row in one.rows]
    shares = [weights.get(name, 1.0) for name in students]
    together = {name: stage.mean_student(answers, shares) for name, answers in liked.answers.items()}
    liking: dict[str, Any] = {"skipped": next(iter(liked.skipped.values()), "no task")}
    if together:
        liking = stage.liking(list(together.values()), seed)
        if not set_known:
            liking["preference_set"] = "unknown"
        if len(students) > 1:
            liking["students"] = {
                name: stage.liking([answers[place] for answers in liked.answers.values()], seed)
                for place, name in enumerate(students)
            }
    rewards: dict[str, Any] = {
        side: stage.rewards([row for row in weighed if row.side == side]) for side in ("held_out", "trained")
    }
    if served:
        rewards["not_measured"] = "not measured: a server doesn't tell how likely a reply is"
    elif not rewards["held_out"]:
        rewards["none_held_out"] = "of trained pairs only, none were held out"
    report: dict[str, Any] = {
        "rationales": stage.share(sum(row.changed for row in rows), len(rows)),
        "replies": stage.share(
            sum(one.replies_changed for one in of_task.values()), sum(one.replies for one in of_task.values())
        ),
        "usable": {"n": len(rows), **{side: stage.usable(rows, side) for side in ("before", "after")}},
        "repeats_a_draft": sum(one.repeats for one in of_task.values()),
        "rewards": rewards,
        "liking": liking,
        "tasks": {
            name: {
                "rationales": stage.share(sum(row.changed for row in one.rows), len(one.rows)),
                "replies": stage.share(one.replies_changed, one.replies),
                "liking": stage.liking([together[name]], seed)
                if name in together
                else {"skipped": liked.skipped[name]},
                **({"skipped": one.skipped} if one.skipped else {}),
            }
            for name, one in of_task.items()
        },
    }
    return {"verdict": verdict(report), **report}


def counts(
    of_task: Mapping[str, OfTask], weighed: Sequence[stage.Weighed], probes: Sequence[Probe], report: Mapping[str, Any]
) -> list[Count]:
    """Of the stage table."""
    rows = [row for one in of_task.values() for row in one.rows]
    unusable = sum(not row.usable for row in rows)
    repeats = report["repeats_a_draft"]
    dropped = {"repeats_draft": repeats, "without_answer": unusable}
    counts = [
        Count(
            "questions", len(rows) + repeats, len(rows) - unusable, {k: n for k, n in dropped.items() if n},
            report["verdict"],
        )
    ]  # fmt: skip
    if weighed:
        found = report["rewards"]["held_out"] or report["rewards"]["trained"]
        side = "held-out" if report["rewards"]["held_out"] else "trained"
        accuracy, margin = found["all"]["accuracy"], found["all"]["margin"]
        note = f"{side}: chosen preferred {100 * accuracy:.1f} % (chance: 50), margin {margin:+.2f} nats"
        counts.append(Count("pairs", len(weighed), len(weighed), note=note))
    if probes:
        counts.append(Count("probes", len(probes), len(probes)))
    return counts
