"""What stage 4 tells of its pairs beside their number: gaps with what chance makes of them, techniques, lengths.

`04-pair/gaps.json` holds it, and the summary shows it (`show/gap_lines.py`). Pairs do not depend on it.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from types import MappingProxyType
from typing import Any

import numpy as np

from arte_plugin.rows import Draft, PreferencePair
from arte_plugin.stages import chance, ties
from arte_plugin.stages.cells import Cells
from arte_plugin.stages.question_scores import incomplete, technique_effects

NO_PROBES = "no probes, so chance can't be told"
UNEQUAL = "no preference question that every draft was asked, so chance can't be told"


def gap_report(
    drafts: Sequence[Draft],
    scored: Mapping[str, float],
    cells: Cells,
    weights: Mapping[str, float],
    pairs: Sequence[PreferencePair],
    quantile: float,
    seed: int,
    pilots: Collection[str] = (),
    ranks: Mapping[tuple[str, str], Sequence[float]] | None = None,
    unknown: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """For each task its gaps of both levels and what else there is to tell, JSON-ready; gaps are in score, 0..1.

    `scored` is s_r by draft id, `weights` those of several students. What chance makes of the gaps is told on the
    preference questions that every draft was asked: all of them, unless `probe.budget: racing` left some out.
    Questions with a draft among `pilots`, the ids of those that chose the preference questions, have no part in it.
    `unknown` says by level why chance can't be told, whatever cells there are (`scoring.chance_not_known`).
    `ranks` are those of the rationales that could be paired (`pair.rationale_ranks`); None: all, by their score.
    """
    report = {}
    for task in dict.fromkeys(draft.task for draft in drafts):
        of_task = [draft for draft in drafts if draft.task == task and draft.draft_id in scored]
        if not of_task:
            continue
        of_pairs = [one for one in pairs if one.task == task]
        chose = {draft.question_id for draft in of_task if draft.draft_id in pilots}
        tested = [draft for draft in of_task if draft.question_id not in chose]
        values = _chosen_on(of_task, tested, pilots) or _values(tested, cells, weights)
        rng = np.random.default_rng([seed, *task.encode()])
        told: dict[str, Any] = {
            "question": _question_level(tested, scored, unknown.get("question") or values, quantile, rng),
            "rationale": _rationale_level(tested, unknown.get("rationale") or values, rng),
            "lengths": _lengths(of_task, scored, of_pairs),
            "techniques": _techniques(of_task, scored, of_pairs),
            **_tied(of_task, scored, of_pairs, ranks),
            **({"questions_that_chose": len(chose)} if chose else {}),
        }
        for level in ("question", "rationale"):
            kept = [one.chosen_score - one.rejected_score for one in of_pairs if one.level == level]
            told[level] |= {"pairs": len(kept), "mean_gap_of_pairs": fmean(kept) if kept else None}
        report[task] = told
    return report


def _chosen_on(drafts: Sequence[Draft], tested: Sequence[Draft], pilots: Collection[str]) -> str:
    """Why chance can't be told, if too little is left to test beside what chose the questions; else empty.

    Preference questions are chosen for telling the pilots apart, and do so on them even where all drafts are alike.
    """
    if 2 * len(tested) >= len(drafts):
        return ""
    chose = sum(draft.draft_id in pilots for draft in drafts)
    return f"the questions were chosen on {chose} of these {len(drafts)} drafts, so chance can't be told"


def _values(drafts: Sequence[Draft], cells: Cells, weights: Mapping[str, float]) -> np.ndarray | str:
    """Drafts × preference questions, the mean over students; or why there is no such matrix."""
    ids = {draft.draft_id for draft in drafts}
    students = sorted({student for student, draft in cells if draft in ids})
    if not students:
        return NO_PROBES
    rows = {student: [cells.get((student, draft.draft_id), {}) for draft in drafts] for student in students}
    asked = sorted(set.intersection(*(set(row) for of_student in rows.values() for row in of_student)))
    if len(asked) < 2:
        return UNEQUAL
    total = sum(weights.get(student, 1.0) for student in students)
    values = np.zeros((len(drafts), len(asked)))
    for student in students:
        values += weights.get(student, 1.0) / total * np.array([[row[key] for key in asked] for row in rows[student]])
    return values


def _groups(drafts: Sequence[Draft]) -> list[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, draft in enumerate(drafts):
        rows.setdefault(draft.question_id, []).append(row)
    return list(rows.values())


def _rationale_level(drafts: Sequence[Draft], values: np.ndarray | str, rng: np.random.Generator) -> dict[str, Any]:
    groups = _groups(drafts)
    if isinstance(values, str):
        return {"told": values}
    if not any(len(rows) > 1 for rows in groups):
        return {"told": "no question has two rationales"}
    tested = chance.rationale_gap(values, groups, rng)
    crossed = chance.rationales_cross_fitted(values, groups, rng)
    return _told(tested, crossed, values.shape[1], sum(len(rows) > 1 for rows in groups))


def _question_level(
    drafts: Sequence[Draft], scored: Mapping[str, float], values: np.ndarray | str, quantile: float,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    groups = _groups(drafts)
    if isinstance(values, str):
        return {"told": values}
    if len(groups) < 2:
        return {"told": "one question"}
    scores = values.mean(axis=1)
    effects = technique_effects(drafts, dict(zip((draft.draft_id for draft in drafts), scores.tolist(), strict=True)))
    off = np.array([effects.get(draft.technique, 0.0) for draft in drafts])
    allowed_for = values - off[:, None]
    tested = chance.question_gap(allowed_for, groups, quantile, rng)
    crossed = chance.questions_cross_fitted(allowed_for, groups, quantile, rng)
    return _told(tested, crossed, values.shape[1], len(groups))


def _told(
    tested: chance.Tested, crossed: chance.CrossFitted | None, preference_questions: int, questions: int
) -> dict[str, Any]:
    return {
        "questions": questions,
        "preference_questions": preference_questions,
        **asdict(tested),
        "resamples": chance.RESAMPLES,
        "halves": asdict(crossed) if crossed else None,
    }


def _lengths(
    drafts: Sequence[Draft], scored: Mapping[str, float], pairs: Sequence[PreferencePair]
) -> dict[str, float | None]:
    """Characters of rationales, and Spearman's correlation of a rationale's length with its score."""
    rationale = [one for one in pairs if one.level == "rationale"]
    return {
        "chosen": fmean(len(one.chosen) for one in rationale) if rationale else None,
        "rejected": fmean(len(one.rejected) for one in rationale) if rationale else None,
        "correlation_with_score": _spearman(
            [len(draft.rationale) for draft in drafts], [scored[draft.draft_id] for draft in drafts]
        ),
    }


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    from scipy.stats import spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)


def _techniques(
    drafts: Sequence[Draft], scored: Mapping[str, float], pairs: Sequence[PreferencePair]
) -> dict[str, dict[str, float]]:
    technique = {draft.draft_id: draft.technique for draft in drafts}
    rationale = [one for one in pairs if one.level == "rationale"]
    chosen, rejected = (
        Counter(technique[getattr(one, side)] for one in rationale) for side in ("chosen_id", "rejected_id")
    )
    return {
        name: {
            "drafts": sum(draft.technique == name for draft in drafts),
            "mean_score": fmean(scored[draft.draft_id] for draft in drafts if draft.technique == name),
            "chosen": chosen[name],
            "rejected": rejected[name],
        }
        for name in dict.fromkeys(draft.technique for draft in drafts)
    }


def _tied(
    drafts: Sequence[Draft], scored: Mapping[str, float], pairs: Sequence[PreferencePair],
    ranks: Mapping[tuple[str, str], Sequence[float]] | None,
) -> dict[str, int]:  # fmt: skip
    """Pairs whose best, or worst, was one of several that could have been, and questions that lost a rationale."""
    question = {draft.draft_id: draft.question_id for draft in drafts}
    if ranks is None:
        scores: dict[tuple[str, str], list[float]] = {}
        for draft in drafts:
            scores.setdefault((draft.task, draft.question_id), []).append(scored[draft.draft_id])
        ranks = scores
    of_pairs = [
        [round(rank, ties.DIGITS) for rank in ranks[one.task, question[one.chosen_id]]]
        for one in pairs
        if one.level == "rationale"
    ]
    return {
        "rationale_best_tied": sum(values.count(max(values)) > 1 for values in of_pairs),
        "rationale_worst_tied": sum(values.count(min(values)) > 1 for values in of_pairs),
        "questions_without_a_rationale": incomplete(drafts),
    }
