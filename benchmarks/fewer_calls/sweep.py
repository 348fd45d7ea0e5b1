"""What fewer probes cost: every way of spending them, on the committed matrix, against all of them.

python benchmarks/fewer_calls/sweep.py [--seeds N]        writes results.json; a minute or two, no model

Pairs are made by the pair stage itself. Of those that the full budget makes, a pair is the same *in sign* where its
chosen side is scored above its rejected one by the fewer probes too; a tie is not. It is *identical* where the very
same pair is made. And of the pairs that the fewer probes make, those are *contradicted* whose sides the full budget
scores the other way round, or the same.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import policies
from arte_plugin.config.pair import PairArgs
from arte_plugin.rows import Draft, PreferencePair
from arte_plugin.stages.pairing import pair
from matrix import FOLDER, Matrix, load

RESULTS = FOLDER / "results.json"
SHARES = (0.3, 0.4, 0.5, 0.6, 0.75)
POLICIES: dict[str, Callable[..., policies.Scores]] = {
    "racing": policies.racing,
    "uniform": policies.uniform,
    "discriminating": policies.discriminating,
    "halving": policies.halving,
    "quartiles": policies.quartiles,
}


def pairs(matrix: Matrix, scored: Mapping[str, float]) -> list[PreferencePair]:
    """The pair stage's, with the paper's settings; texts play no part, so ids stand for them."""
    drafts = [
        Draft(draft, matrix.task, question, question, "", "", draft, "", "", "")
        for draft, question in matrix.question_of.items()
    ]
    return pair(drafts, scored, PairArgs(), 42, lambda prompt, completion: True)[0]


def compare(matrix: Matrix, scored: Mapping[str, float]) -> dict[str, float]:
    """Shares of pairs, all of them in 0..1."""
    full_scores = {draft: matrix.full_score(draft) for draft in matrix.question_of}
    full, fewer = pairs(matrix, full_scores), pairs(matrix, scored)
    found: dict[str, float] = {}
    for name, some in [
        ("all", full),
        *((level, [p for p in full if p.level == level]) for level in ("question", "rationale")),
    ]:
        found[f"same_sign_{name}"] = fmean(_gap(matrix, scored, one) > 1e-9 for one in some)
    made = {(one.level, one.chosen_id, one.rejected_id) for one in fewer}
    found["identical"] = fmean((one.level, one.chosen_id, one.rejected_id) in made for one in full)
    found["contradicted"] = fmean(_gap(matrix, full_scores, one) <= 1e-9 for one in fewer)
    return found


def _gap(matrix: Matrix, scored: Mapping[str, float], one: PreferencePair) -> float:
    if one.level == "rationale":
        return scored[one.chosen_id] - scored[one.rejected_id]
    sides = [
        fmean(scored[draft] for draft, question in matrix.question_of.items() if question == side)
        for side in (one.chosen_id, one.rejected_id)
    ]
    return sides[0] - sides[1]


def tried(matrix: Matrix, policy: Callable[..., policies.Scores], seeds: int, **settings: float) -> dict[str, Any]:
    """Mean, least and greatest over orders of the preference questions."""
    cells, rows = len(matrix.cells), []
    for seed in range(seeds):
        scored, calls = policy(matrix, seed, **settings)
        rows.append({"calls": calls / cells, **compare(matrix, scored)})
    return {
        "settings": settings,
        **{
            key: {
                "mean": round(fmean(row[key] for row in rows), 4),
                "least": round(min(row[key] for row in rows), 4),
                "greatest": round(max(row[key] for row in rows), 4),
            }
            for key in rows[0]
        },
    }


def main() -> None:
    """Try and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    seeds = parser.parse_args().seeds
    results: dict[str, Any] = {"seeds": seeds, "tasks": {}}
    for matrix in load():
        full = {draft: matrix.full_score(draft) for draft in matrix.question_of}
        made = pairs(matrix, full)
        outcomes = [cell.outcome for cell in matrix.cells.values()]
        results["tasks"][matrix.task] = {
            "drafts": len(full),
            "questions": len(set(matrix.question_of.values())),
            "preference_questions": len(matrix.preference_ids),
            "outcomes": {one: outcomes.count(one) for one in ("correct", "wrong", "unparsed")},
            "scores": sorted(round(score, 4) for score in full.values()),
            "pairs": {level: sum(one.level == level for one in made) for level in ("question", "rationale")},
            "shares": {
                name: [tried(matrix, policy, seeds, share=share) for share in SHARES]
                for name, policy in POLICIES.items()
            },
            "steps": [
                tried(matrix, policies.racing, seeds, share=0.5, first=first, step=step)
                for first in (4, 8, 12, 16)
                for step in (4, 8)
            ],
            "confidences": [
                tried(matrix, policies.racing, seeds, share=1.0, confidence=confidence)
                for confidence in (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
            ],
        }  # fmt: skip
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
