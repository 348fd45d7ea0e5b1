"""Write this folder's README.md from finished run folders, and keep their results.json beside it.

    python -m benchmarks.bbh_runs.report outputs/bbh-boolean outputs/bbh-hyperbaton …

No benchmark text is written, only counts, and of the drafts what the teacher itself wrote.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from arte_plugin.language import answers
from arte_plugin.rows import Draft, PreferencePair, Probe, Score, TailoredExample, iter_rows, read_rows, wilson
from arte_plugin.run.manifest import Manifest
from arte_plugin.show.summary import summary

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "yaml_examples/demo_teacher"))

from generators import TASKS  # noqa: E402  the exact solvers, for the tasks that have one

HEAD = """# Runs on Big-Bench-Hard

Small models, small sizes, a CPU: these runs show that the loop holds on real input and what its outputs look like. They
are no claim about ARTE's gains, for which the intervals are far too wide. Each was made by the YAML of the same name
here; this page by `python -m benchmarks.bbh_runs.report outputs/bbh-…`. Big-Bench-Hard itself is not in this
repository.

Shares are followed by their 95 % Wilson interval.
"""


def share(part: int, whole: int) -> str:
    """`5 of 8, 62.5 % (30.6 to 86.3)`."""
    if not whole:
        return "0 of 0"
    low, high = wilson(part, whole)
    return f"{part} of {whole}, {100 * part / whole:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def ties(drafts: Sequence[Draft], scores: Mapping[str, float]) -> tuple[int, int]:
    """Questions whose best and worst rationale score the same, of those with at least two rationales."""
    groups: dict[str, list[float]] = {}
    for draft in drafts:
        groups.setdefault(draft.question_id, []).append(scores[draft.draft_id])
    several = [group for group in groups.values() if len(group) > 1]
    return sum(max(group) - min(group) < 1e-9 for group in several), len(several)


def solved(task: str, rows: Iterable[tuple[str, str]]) -> tuple[int, int, int]:
    """How many of `(question, answer)` the task's solver agrees with, how many it understands, how many there are."""
    right = understood = total = 0
    for question, answer in rows:
        total += 1
        try:
            truth = TASKS[task].solve(question)
        except ValueError:
            continue
        understood += 1
        right += answers.same(answer, truth, TASKS[task].answer)
    return right, understood, total


def report(output_dir: Path) -> str:
    """One run as Markdown; one that ended before its time, up to there (the probes must be there)."""
    folder = output_dir / "arte"
    stages = Manifest(folder / "manifest.json").stages()
    drafts = read_rows(folder / "01-elicit/drafts.jsonl", Draft)
    scores = read_rows(folder / "03-probe/scores.jsonl", Score)
    pairs = read_rows(folder / "04-pair/pairs.jsonl", PreferencePair) if "pair" in stages else []
    examples = read_rows(folder / "06-regenerate/tailored.jsonl", TailoredExample) if "regenerate" in stages else []
    by_draft = {row.draft_id: row.score for row in scores}
    irt = json.loads((folder / "02-preference-set/irt.json").read_text())
    outcomes = Counter(probe.outcome for probe in iter_rows(folder / "03-probe/probes.jsonl", Probe))
    questions = {draft.question_id: draft for draft in drafts}

    lines = ["| what | figure |", "|---|---|"]

    def line(what: str, figure: str) -> None:
        lines.append(f"| {what} | {figure} |")

    for name in ("elicit", "regenerate"):
        for count in stages[name].counts if name in stages else ():
            reasons = ", ".join(f"{n} {reason}" for reason, n in count.dropped.items()) or "none"
            line(f"{name}, {count.what}: kept", f"{share(count.kept, count.made)}; dropped: {reasons}")
    tasks = list(dict.fromkeys(draft.task for draft in drafts))
    for task in (task for task in tasks if task in TASKS):
        of_task = f"{task}: " if len(tasks) > 1 else ""
        rows = [(draft.question, draft.target) for draft in questions.values() if draft.task == task]
        right, understood, total = solved(task, rows)
        line(f"{of_task}drafted questions that the exact solver understands", share(understood, total))
        line("… and whose target is right", share(right, understood))
        right, understood, _ = solved(task, [(draft.question, draft.answer) for draft in drafts if draft.task == task])
        line(f"{of_task}rationales whose answer is right, of those to such questions", share(right, understood))
        right, understood, _ = solved(task, [(one.question, one.answer) for one in examples if one.task == task])
        line(f"{of_task}tailored examples whose answer is right, likewise", share(right, understood))
    line("probes answered right", share(outcomes["correct"], outcomes.total()))
    line("probes that could not be parsed", share(outcomes["unparsed"], outcomes.total()))
    values = sorted(by_draft.values())
    line("s_r, least, mean, most", f"{values[0]:.2f}, {fmean(values):.2f}, {values[-1]:.2f}")
    for task, technique in dict.fromkeys((draft.task, draft.technique) for draft in drafts):
        of_technique = [by_draft[one.draft_id] for one in drafts if (one.task, one.technique) == (task, technique)]
        name = f"`{technique}`{f' of {task}' if len(tasks) > 1 else ''}"
        line(f"mean s_r of {name}", f"{fmean(of_technique):.3f} over {len(of_technique)} drafts")
    line("questions whose best and worst rationale tie", share(*ties(drafts, by_draft)))
    levels = Counter(pair.level for pair in pairs)
    line("pairs", f"{levels['question']} of questions, {levels['rationale']} of rationales")
    for task, fit in irt.items():
        asked = len(fit["questions"])
        of_task = f"{task}: " if len(tasks) > 1 else ""
        for one in fit["respondents"]:
            right = round(one["accuracy"] * asked)
            line(f"{of_task}validation questions that `{one['respondent']}` got right", share(right, asked))
        again = fit["stability"]
        if again["overlap"] is not None:
            line(f"{of_task}share of the preference set that both halves of the respondents choose",
                 f"{again['overlap']:.2f} (by chance {again['chance']:.2f})")  # fmt: skip
    versions = stages["elicit"].versions
    line("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))
    shown = summary(folder).split("\n", 2)[2].strip("\n")
    return "\n".join([*lines, "", "```", shown, "```"])


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="output directories of finished runs")
    options = parser.parse_args()
    # Whatever the terminal, a page has this much room.
    os.environ["COLUMNS"] = "100"
    parts = [HEAD]
    for run in options.runs:
        parts.append(f"## {run.name}\n\n{report(run)}\n")
        notes = HERE / f"{run.name}.notes.md"
        if notes.is_file():
            parts.append(notes.read_text())
        results = run / "arte/08-evaluate/results.json"
        if results.is_file():
            (HERE / f"{run.name}.results.json").write_text(results.read_text())
    (HERE / "README.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
