"""How well the preference set stands for the whole validation set: the paper's consistency check (section 3.2).

The paper reports that the best of a question's rationales is the same on the preference set and on the whole validation
set for 93.3 % of the questions, the worst for 86.7 %. Here some draft questions are drawn, their rationales are probed
on the rest of the validation set too, and the same is counted. A set is a part of the whole and agrees with it for that
alone, so random sets of the same size from the same probes stand beside it.

Ties, which the paper does not speak of:

- The set's best and worst are the ones that pairing picks: by score, then by the same seeded chance (`ties.py`).
- The best is the same when no draft of the question has a higher score on the whole set; the worst likewise.
- A question whose drafts all tie on the set makes no pair: it is counted as `tied`, not as agreement.
- A question whose drafts all tie on the whole set has no best to be found: it is left out for every set, and counted.
"""

import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from arte_plugin.errors import DataError
from arte_plugin.rows import Draft, Probe, wilson
from arte_plugin.run.manifest import Manifest, hash_file
from arte_plugin.stages import STAGES, ties
from arte_plugin.stages.stability import UNTOLD

#: The check's name in the manifest, which puts it below `probe` in the stage table.
STAGE = "probe/consistency"
RANDOM_SETS = 200

#: For each checked question the rows of its drafts, in the order that settles ties.
Groups = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Agreement:
    """How far a set agrees with the whole validation set, in questions."""

    compared: int
    best_same: int
    worst_same: int
    #: Questions whose drafts all tie on the set, but not on the whole.
    tied: int


def drawn(drafts: Sequence[Draft], count: int, seed: int) -> list[Draft]:
    """The drafts of `count` questions of one task, drawn among those with two drafts or more."""
    by_question: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_question.setdefault(draft.question_id, []).append(draft)
    several = [question for question, group in by_question.items() if len(group) > 1]
    if len(several) > count:
        several = random.Random(f"{seed}/{drafts[0].task}/consistency").sample(several, count)
    return [draft for draft in drafts if draft.question_id in set(several)]


def check(
    drafts: Sequence[Draft], probes: Iterable[Probe], validation: Sequence[str], chosen: Collection[str], seed: int
) -> dict[str, dict[str, Any]]:
    """For each student the agreement of the preference set `chosen` and of random sets of its size; one task.

    `probes` hold every draft on every question of `validation` (ids) for each student, and may hold others. Raises
    `DataError` when a probe is missing.
    """
    wanted = {draft.draft_id for draft in drafts}
    by_student: dict[str, dict[tuple[str, str], bool]] = {}
    for row in probes:
        if row.draft_id in wanted:
            outcomes = by_student.setdefault(row.student, {})
            outcomes[row.draft_id, row.preference_id] = row.outcome == "correct"
    return {student: _check(drafts, outcomes, validation, chosen, seed) for student, outcomes in by_student.items()}


def agreement(on_set: np.ndarray, on_whole: np.ndarray, groups: Groups) -> Agreement:
    """Compare two sets of scores, as numbers of right answers of each draft; see the module for ties."""
    compared = best_same = worst_same = tied = 0
    for rows in groups:
        here, there = on_set[rows], on_whole[rows]
        if there.min() == there.max():
            continue
        if here.min() == here.max():
            tied += 1
            continue
        compared += 1
        # The first of the highest, the last of the lowest, as in pairing.
        best, worst = int(here.argmax()), len(here) - 1 - int(here[::-1].argmin())
        best_same += bool(there[best] == there.max())
        worst_same += bool(there[worst] == there.min())
    return Agreement(compared, best_same, worst_same, tied)


def _check(
    drafts: Sequence[Draft],
    outcomes: Mapping[tuple[str, str], bool],
    validation: Sequence[str],
    chosen: Collection[str],
    seed: int,
) -> dict[str, Any]:
    ordered = sorted(drafts, key=lambda draft: draft.draft_id)
    try:
        correct = np.array([[outcomes[draft.draft_id, q] for q in validation] for draft in ordered], dtype=int)
    except KeyError as error:
        raise DataError(f"The probes are incomplete: none of draft and validation question {error}.") from error
    by_question: dict[str, dict[str, int]] = {}
    for row, draft in enumerate(ordered):
        by_question.setdefault(draft.question_id, {})[draft.draft_id] = row
    groups = [
        [rows[key] for key in ties.ranked(dict.fromkeys(rows, 0.0), ties.of_question(seed, ordered[0].task, name))]
        for name, rows in by_question.items()
    ]
    whole = correct.sum(axis=1)
    on_set = correct[:, [question in chosen for question in validation]].sum(axis=1)
    mine = agreement(on_set, whole, groups)

    rng = np.random.default_rng(seed)
    random_sets = [
        correct[:, rng.choice(len(validation), len(chosen), replace=False)].sum(axis=1) for _ in range(RANDOM_SETS)
    ]
    theirs = [agreement(scores, whole, groups) for scores in random_sets]
    return {
        "questions": len(groups),
        "drafts": len(ordered),
        "validation": len(validation),
        "size": len(chosen),
        "tied_on_validation_set": len(groups) - mine.compared - mine.tied,
        "preference_set": {
            "compared": mine.compared,
            "tied": mine.tied,
            "best": _share(mine.best_same, mine.compared),
            "worst": _share(mine.worst_same, mine.compared),
            "rank_correlation": _rank_correlation(on_set, whole),
        },
        "random_sets": {
            "sets": RANDOM_SETS,
            "compared": fmean(one.compared for one in theirs),
            "tied": fmean(one.tied for one in theirs),
            "best": _mean_share([one.best_same / one.compared for one in theirs if one.compared]),
            "worst": _mean_share([one.worst_same / one.compared for one in theirs if one.compared]),
            "rank_correlation": _mean([_rank_correlation(scores, whole) for scores in random_sets]),
        },
    }


def _share(same: int, n: int) -> dict[str, Any]:
    """A share with n and its 95 % Wilson interval."""
    low, high = wilson(same, n)
    return {"same": same, "n": n, "share": same / n if n else None, "low": low, "high": high}


def _mean_share(shares: Sequence[float]) -> dict[str, Any]:
    """The mean over random sets, and what 95 % of them lie between."""
    if not shares:
        return {"share": None, "low": 0.0, "high": 1.0}
    low, high = np.quantile(shares, [0.025, 0.975])
    return {"share": fmean(shares), "low": float(low), "high": float(high)}


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's, over all drafts of the task; None where all scores of one side are the same."""
    from scipy.stats import spearmanr

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


# --- What is shown of the preference set ------------------------------------------------------------------------------


def preference_set_report(folder: Path) -> dict[str, Any]:
    """How well the preference set of each task stands for its validation set, JSON-ready; `folder` is the run folder.

    `overlap` is the share of the set that two halves of the respondents both choose, `chance` that on permuted answers
    (see `stability`). `consistency` holds what `check` found for each student, and is empty where nothing was checked.
    The report is empty where the run made no preference set.
    """
    fits_file = folder / STAGES["preference-set"] / "irt.json"
    stages = Manifest(folder / "manifest.json").stages()
    if "preference-set" not in stages or not fits_file.is_file():
        return {}
    probes_file, checked_file = (folder / STAGES["probe"] / name for name in ("probes.jsonl", "consistency.json"))
    checked: dict[str, Any] = {}
    # A check of other probes, from before a change of the preference set, says nothing of these.
    if STAGE in stages and stages[STAGE].inputs["probes"] == hash_file(probes_file):
        checked = json.loads(checked_file.read_text(encoding="utf-8"))
    return {
        task: {
            "method": fit["method"],
            "validation": len(fit["questions"]),
            "size": sum(question["chosen"] for question in fit["questions"]),
            # Early versions drew respondents anew, which told nothing.
            **(fit["stability"] if "splits" in fit["stability"] else UNTOLD),
            "consistency": checked.get(task, {}),
        }
        for task, fit in json.loads(fits_file.read_text(encoding="utf-8")).items()
        # Early versions wrote no more than the method for sets that were not chosen by IRT.
        if "questions" in fit
    }
