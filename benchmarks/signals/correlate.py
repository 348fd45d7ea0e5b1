"""How far each signal of a run goes with the paper's score, beside what chance gives and what the score's noise allows.

    python benchmarks/signals/correlate.py RUN [--json FILE]

RUN is the output folder of a run whose `arte.signals` names `answers` and others: its rows are read, and no model is
asked. For each signal, over the drafts (of question signals: over the questions, with s_q):

- Spearman's correlation with s_r, and its 95 % interval: questions are drawn again with all their drafts, 2,000 times;
- p: how often drafts (questions) dealt anew give a correlation as far from 0, of 2,000 deals;
- within questions: the mean over questions of the correlation of its drafts, and p for drafts dealt anew within each.

`one half` is the ceiling: s_r on every other preference question against s_r on the rest, which differ by noise alone.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.stats import rankdata

from arte_plugin.rows import Draft, Measure, Probe, iter_rows, read_rows
from arte_plugin.show.tables import markdown_table

TIMES = 2000
HEAD = ["signal", "n", "differ", "with s_r", "95 %", "p", "within questions", "p", "n"]


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """NaN where one of them is all the same."""
    first, second = rankdata(one), rankdata(other)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def within(one: np.ndarray, other: np.ndarray, groups: Sequence[np.ndarray]) -> tuple[float, int]:
    """The mean over groups in which both differ, and how many these are."""
    found = [value for group in groups if not np.isnan(value := spearman(one[group], other[group]))]
    return (fmean(found), len(found)) if found else (float("nan"), 0)


def dealt(
    one: np.ndarray, statistic: Callable[[np.ndarray], float], deal: Callable[[], np.ndarray]
) -> float:  # fmt: skip
    """The share of deals whose statistic is as far from 0."""
    there = abs(statistic(one))
    return (1 + sum(abs(statistic(one[deal()])) >= there - 1e-12 for _ in range(TIMES))) / (1 + TIMES)


def compared(values: Mapping[str, float], score: Mapping[str, float], question_of: Mapping[str, str]) -> list[str]:
    """One line of the table, without the signal's name."""
    rng = np.random.default_rng(0)
    ids = [name for name in score if name in values]
    one, other = np.array([values[name] for name in ids]), np.array([score[name] for name in ids])
    by_question: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(ids):
        by_question[question_of[name]].append(place)
    groups = [np.array(places) for places in by_question.values()]
    rho = spearman(one, other)
    if np.isnan(rho):
        return [str(len(ids)), str(len(set(one.tolist()))), "all the same", "", "", "", "", ""]
    drawn = []
    for _ in range(TIMES):
        places = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        drawn.append(spearman(one[places], other[places]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    p = dealt(one, lambda dealt_: spearman(dealt_, other), lambda: rng.permutation(len(ids)))
    line = [str(len(ids)), str(len(set(one.tolist()))), f"{rho:+.2f}", f"{low:+.2f} to {high:+.2f}", shown(p)]
    inside, count = within(one, other, groups)
    if not count:
        return [*line, "", "", ""]

    def within_each() -> np.ndarray:
        places = np.arange(len(ids))
        for group in groups:
            places[group] = rng.permutation(group)
        return places

    p = dealt(one, lambda dealt_: within(dealt_, other, groups)[0], within_each)
    return [*line, f"{inside:+.2f}", shown(p), str(count)]


def shown(p: float) -> str:
    """A share of `TIMES` deals."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def halves(probes: Sequence[Probe]) -> tuple[dict[str, float], dict[str, float]]:
    """s_r by draft on every other preference question, and on the rest."""
    even = {name: place % 2 == 0 for place, name in enumerate(sorted({one.preference_id for one in probes}))}
    right: dict[bool, dict[str, list[bool]]] = {True: defaultdict(list), False: defaultdict(list)}
    for one in probes:
        right[even[one.preference_id]][one.draft_id].append(one.outcome == "correct")
    first, second = ({name: fmean(of) for name, of in right[half].items()} for half in (True, False))
    return first, second


def table(folder: Path) -> list[list[str]]:
    """The table of a run with one student and one task, or of the first of them."""
    drafts = read_rows(folder / "arte/01-elicit/drafts.jsonl", Draft)
    measures = read_rows(folder / "arte/03-probe/measures.jsonl", Measure)
    task, student = measures[0].task, measures[0].student
    mine = [one for one in measures if (one.task, one.student) == (task, student)]
    probes = [
        one for one in iter_rows(folder / "arte/03-probe/probes.jsonl", Probe)
        if (one.task, one.student) == (task, student)
    ]  # fmt: skip
    question_of = {one.draft_id: one.question_id for one in drafts if one.task == task}
    s_r = {one.id: one.value for one in mine if one.signal == "answers"}
    by_question: dict[str, list[float]] = defaultdict(list)
    for name, value in s_r.items():
        by_question[question_of[name]].append(value)
    s_q = {name: fmean(values) for name, values in by_question.items()}
    first, second = halves(probes)
    lines = [HEAD, ["one half, the other", *compared(first, second, question_of)]]
    for signal in dict.fromkeys(one.signal for one in mine if one.signal != "answers"):
        rows = [one for one in mine if one.signal == signal]
        values = {one.id: one.value for one in rows}
        if rows[0].of == "question":
            lines.append([f"{signal} (questions, s_q)", *compared(values, s_q, {name: name for name in s_q})])
        else:
            lines.append([signal, *compared(values, s_r, question_of)])
    return lines


def main() -> None:
    """Print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    lines = table(args.run)
    print(markdown_table(lines))
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
