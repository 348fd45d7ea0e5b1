"""How well the likelihoods of the right answers go with the paper's score, over the drafts of the committed matrix.

python benchmarks/fewer_calls/correlate.py                writes likelihood.json; seconds, no model

Spearman's rank correlation, with a 95 % interval from 2,000 bootstrap samples of the draft questions, each with all of
its rationales: rationales of one question are no independent draws. Beside it the correlation of the paper's scores
from one random half of the preference questions with those from the other, the mean over 200 halvings: no other score
can be expected to go together with the paper's much better than it does with itself.
"""

import json
import math
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from matrix import FOLDER, Matrix, load
from sweep import compare

CORRELATIONS = FOLDER / "likelihood.json"
BOOTSTRAP, HALVINGS = 2000, 200

#: How a draft's score can be made of its cells' likelihoods; the first two are `probe.score`'s.
SCORES: dict[str, Callable[[Any], float]] = {
    "likelihood": lambda cell: math.exp(cell.likelihood),
    "likelihood_without_rationale": lambda cell: math.exp(cell.without_rationale),
    "likelihood, mean logarithm": lambda cell: cell.likelihood,
    "likelihood_without_rationale, mean logarithm": lambda cell: cell.without_rationale,
    "likelihood, share of both answers": lambda cell: _share(cell.likelihood, cell.wrong_one),
    "likelihood, the likelier answer": lambda cell: float(cell.likelihood > cell.wrong_one),
}

NEED_THE_WRONG_ONE = ("likelihood, share of both answers", "likelihood, the likelier answer")


def _share(right: float, wrong: float) -> float:
    return 1 / (1 + math.exp(wrong - right))


def main() -> None:
    """Correlate and write."""
    report: dict[str, Any] = {"bootstrap": BOOTSTRAP, "halvings": HALVINGS, "tasks": {}}
    for matrix in load():
        paper = {draft: matrix.full_score(draft) for draft in matrix.question_of}
        found: dict[str, Any] = {}
        other = all(cell.wrong_one is not None for cell in matrix.cells.values())
        for name, of_cell in SCORES.items():
            if not other and name in NEED_THE_WRONG_ONE:
                continue
            scored = {
                draft: fmean(of_cell(matrix.cells[draft, question]) for question in matrix.preference_ids)
                for draft in matrix.question_of
            }
            found[name] = {**_correlation(matrix, paper, scored), **compare(matrix, scored)}
        report["tasks"][matrix.task] = {"n": len(paper), "halves": _halves(matrix), "scores": found}
    CORRELATIONS.write_text(json.dumps(report, indent=1) + "\n")


def _correlation(matrix: Matrix, paper: Mapping[str, float], scored: Mapping[str, float]) -> dict[str, float]:
    groups: dict[str, list[str]] = {}
    for draft, question in matrix.question_of.items():
        groups.setdefault(question, []).append(draft)
    # Within a question: what the rationale-level pairs hang on.
    centred = [
        {d: s[d] - fmean(s[one] for one in groups[q]) for d, q in matrix.question_of.items()} for s in (paper, scored)
    ]
    rng = np.random.default_rng(0)
    names, samples = list(groups), []
    for _ in range(BOOTSTRAP):
        drawn = [draft for i in rng.integers(len(names), size=len(names)) for draft in groups[names[i]]]
        samples.append(_spearman(paper, scored, drawn))
    low, high = np.nanquantile(samples, [0.025, 0.975])
    everyone = list(matrix.question_of)
    return {
        "spearman": round(_spearman(paper, scored, everyone), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "within_questions": round(_spearman(*centred, everyone), 4),
        "distinct_scores": len({round(score, 9) for score in scored.values()}),
    }


def _halves(matrix: Matrix) -> float:
    rng, found = np.random.default_rng(0), []
    for _ in range(HALVINGS):
        order = [str(question) for question in rng.permutation(matrix.preference_ids)]
        middle = len(order) // 2
        halves = [
            {draft: fmean(matrix.right(draft, question) for question in half) for draft in matrix.question_of}
            for half in (order[:middle], order[middle:])
        ]
        found.append(_spearman(*halves, list(matrix.question_of)))
    return round(fmean(found), 4)


def _spearman(one: Mapping[str, float], other: Mapping[str, float], drafts: list[str]) -> float:
    # Rounded: likelihoods of the same text can differ in the last digits from batch to batch.
    return float(spearmanr([round(one[d], 9) for d in drafts], [round(other[d], 9) for d in drafts]).statistic)


if __name__ == "__main__":
    main()
