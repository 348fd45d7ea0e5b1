"""Write `docs/fewer-calls.md`, what fewer probes cost and likelihoods are worth; with `--check`, fail when it is stale.

python -m benchmarks.fewer_calls.make_page [--check]
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arte_plugin.config.probe import RacingArgs
from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, write_or_check

DATA = Path(__file__).parent

POLICIES = {
    "racing": "`probe.budget: racing`",
    "uniform": "the same questions for all drafts",
    "discriminating": "the same, the most discriminating ones",
    "halving": "a question's best and worst go on",
    "quartiles": "racing by place, not by sign",
}
SCORES = {
    "likelihood": "`likelihood`",
    "likelihood_without_rationale": "`likelihood_without_rationale`",
    "likelihood, mean logarithm": "the first, by the mean logarithm",
    "likelihood_without_rationale, mean logarithm": "the second, by the mean logarithm",
    "likelihood, share of both answers": "the first, as its share of `True` and `False`",
    "likelihood, the likelier answer": "the first, 1 where it is the likelier of the two",
}
WAYS = {
    "answers": "`answers`, all at once",
    "answers in rounds": "`answers`, in rounds like those of racing",
    "likelihood": "`likelihood`",
    "likelihood_without_rationale": "`likelihood_without_rationale`",
}


def main() -> int:
    """Write or check the page."""
    swept, correlated, speed = (
        json.loads((DATA / name).read_text(encoding="utf-8"))
        for name in ("results.json", "likelihood.json", "speed.json")
    )
    values = {
        "first": RacingArgs().first,
        "step": RacingArgs().step,
        "share": f"{100 * RacingArgs().share:.0f} %",
        "seeds": swept["seeds"],
        "matrix": markdown_table(_matrix(swept["tasks"])),
        "shares": _by_task(swept["tasks"], _shares),
        "steps": _by_task(swept["tasks"], _steps),
        "confidences": _by_task(swept["tasks"], _confidences),
        "correlations": _by_task(correlated["tasks"], _correlations),
        "bootstrap": f"{correlated['bootstrap']:,}",
        "speed": markdown_table(_speed(speed)),
        "speed_drafts": speed["drafts"],
        "rows": speed["drafts"] * speed["preference_questions"],
        "half": _time_for_half(speed),
        "max_new_tokens": speed["max_new_tokens"],
        "machine": speed["machine"],
        "student": speed["student"],
    }
    page = (DATA / "page.md").read_text(encoding="utf-8")
    for key, value in values.items():
        page = page.replace(f"{{{{{key}}}}}", str(value))
    return write_or_check(DOCS / "fewer-calls.md", page)


def _by_task(tasks: Mapping[str, Any], table: Any) -> str:
    return "\n\n".join(f"`{task}`:\n\n{markdown_table(table(found))}" for task, found in tasks.items())


def _matrix(tasks: Mapping[str, Any]) -> list[list[str]]:
    lines = [["task", "drafts", "preference questions", "correct", "unparsed", "scores", "pairs, question + rationale"]]
    for task, found in tasks.items():
        cells = sum(found["outcomes"].values())
        scores = found["scores"]
        lines.append(
            [
                f"`{task}`",
                f"{found['drafts']} of {found['questions']} questions",
                str(found["preference_questions"]),
                *(f"{100 * found['outcomes'][one] / cells:.1f} %" for one in ("correct", "unparsed")),
                f"{scores[0]:.3f} to {scores[-1]:.3f}, {len(set(scores))} different ones",
                f"{found['pairs']['question']} + {found['pairs']['rationale']}",
            ]
        )
    return lines


COLUMNS = [
    ("same_sign_all", "same in sign"),
    ("same_sign_question", "question level"),
    ("same_sign_rationale", "rationale level"),
    ("identical", "identical"),
    ("contradicted", "contradicted"),
]


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_percent(row["calls"]["mean"]), *(_range(row[key]) for key, _ in COLUMNS)]


def _shares(found: Mapping[str, Any]) -> list[list[str]]:
    lines = [["probes", "way", *(name for _, name in COLUMNS)]]
    for i in range(len(found["shares"]["racing"])):
        for policy, name in POLICIES.items():
            calls, *rest = _cells(found["shares"][policy][i])
            lines.append([calls, name, *rest])
    return lines


def _steps(found: Mapping[str, Any]) -> list[list[str]]:
    lines = [["`first`", "`step`", "probes", *(name for _, name in COLUMNS)]]
    return lines + [
        [str(row["settings"]["first"]), str(row["settings"]["step"]), *_cells(row)] for row in found["steps"]
    ]


def _confidences(found: Mapping[str, Any]) -> list[list[str]]:
    lines = [["`confidence`", "probes", *(name for _, name in COLUMNS)]]
    for row in found["confidences"]:
        lines.append([str(row["settings"]["confidence"]), _range(row["calls"]), *_cells(row)[1:]])
    return lines


def _correlations(found: Mapping[str, Any]) -> list[list[str]]:
    lines = [["score", "n", "Spearman, 95 % interval", "within questions", "pairs same in sign", "contradicted"]]
    for key, name in SCORES.items():
        if key not in found["scores"]:
            continue
        row = found["scores"][key]
        lines.append(
            [
                name,
                str(found["n"]),
                f"{row['spearman']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
                "-" if row["within_questions"] is None else f"{row['within_questions']:.2f}",
                _percent(row["same_sign_all"]),
                _percent(row["contradicted"]),
            ]
        )
    lines.append(["the paper's, half against half", str(found["n"]), f"{found['halves']:.2f}", "", "", ""])
    return lines


def _speed(speed: Mapping[str, Any]) -> list[list[str]]:
    tasks: Sequence[str] = list(speed["seconds_a_probe"])
    lines = [["score", "task", "seconds a probe", "times as fast", "processor seconds a probe", "times as few"]]
    for way, name in WAYS.items():
        for task in tasks:
            cells = []
            for kind in ("seconds_a_probe", "processor_seconds_a_probe"):
                of_task = speed[kind][task]
                cells += [f"{of_task[way]:.3f}", f"{of_task['answers'] / of_task[way]:.1f}"]
            lines.append([name, f"`{task}`", *cells])
    return lines


def _time_for_half(speed: Mapping[str, Any]) -> str:
    """What a first batch and rounds up to half of the questions take of the time of all; least and most over tasks."""
    n, first = speed["preference_questions"], RacingArgs().first
    shares = []
    for seconds in speed["processor_seconds_a_probe"].values():
        at_once, in_rounds = seconds["answers"], seconds["answers in rounds"]
        later = (n * in_rounds - first * at_once) / (n - first)
        shares.append((first * at_once + (n / 2 - first) * later) / (n * at_once))
    ends = dict.fromkeys(f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return f"{' to '.join(ends)} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(found: Mapping[str, float]) -> str:
    """Mean, least and greatest."""
    return f"{_percent(found['mean'])} ({100 * found['least']:.0f} to {100 * found['greatest']:.0f})"


if __name__ == "__main__":
    sys.exit(main())
