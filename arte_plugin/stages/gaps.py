"""What stage 4 tells of its pairs beside their number: gaps with what chance makes of them, techniques, lengths.

`04-pair/gaps.json` holds it, and the summary shows it. Pairs do not depend on it.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

import numpy as np

from arte_plugin.rows import AnswerLikelihood, Draft, PreferencePair, Probe, Score, iter_rows
from arte_plugin.show.tables import Lines
from arte_plugin.stages import chance, ties
from arte_plugin.stages.question_scores import incomplete, technique_effects

#: What the student made of a preference question, 0..1, by student, draft and question.
Cells = dict[tuple[str, str], dict[str, float]]

NO_PROBES = "no probes, so chance can't be told"
UNEQUAL = "no preference question that every draft was asked, so chance can't be told"


_KINDS: dict[str, type[Probe] | type[AnswerLikelihood]] = {
    "probes.jsonl": Probe,
    "likelihoods.jsonl": AnswerLikelihood,
}


def cell_files(scores_file: Path) -> list[Path]:
    """What lies beside the scores and may have made them."""
    return [file for name in _KINDS if (file := scores_file.with_name(name)).is_file()]


def read_cells(scores_file: Path, scores: Sequence[Score]) -> Cells:
    """The probes, or likelihoods, that lie beside the scores; empty where there are none that make these scores."""
    if any(row.signals for row in scores):
        return {}
    for path in cell_files(scores_file):
        cells: Cells = {}
        row: Probe | AnswerLikelihood
        for row in iter_rows(path, _KINDS[path.name]):
            value = float(row.outcome == "correct") if isinstance(row, Probe) else math.exp(row.log_probability)
            cells.setdefault((row.student, row.draft_id), {})[row.preference_id] = value
        made = all(
            len(of_draft := cells.get((row.student, row.draft_id), {})) == row.n
            and abs(sum(of_draft.values()) - row.n * row.score) < 1e-6
            for row in scores
        )
        if made:
            return cells
    return {}


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


# --- What is shown ----------------------------------------------------------------------------------------------------


def like_chance(report: Mapping[str, Any]) -> str:
    """A warning where gaps are no more than chance gives; empty where there are none."""
    same = [
        f"{task} ({level} level, p {_p(found[level]['p'])})"
        for task, found in report.items()
        for level in ("question", "rationale")
        if found[level].get("p", 0.0) > 0.05
    ]
    if not same:
        return ""
    named = ", ".join(same[:4]) + (f" and {len(same) - 4} more" if len(same) > 4 else "")
    return (
        f"nothing shows that the student prefers what is chosen: the gaps are no more than chance gives in {named}. "
        "More preference questions (`preference_set.size`) or more drafts (`elicit.questions`) tell more."
    )


def gap_note(report: Mapping[str, Any], level: str) -> str:
    """A level's gap as the stage table has it: of the one task, or how many tasks stand out from chance."""
    told = [found[level] for found in report.values() if "p" in found[level]]
    if not told:
        reasons = {found[level].get("told", "") for found in report.values()}
        return reasons.pop() if len(reasons) == 1 else "chance can't be told"
    if len(told) > 1:
        clear = sum(found["p"] <= 0.05 for found in told)
        gap, by_chance = (100 * fmean(found[key] for found in told) for key in ("gap", "chance"))
        return f"gap {gap:.1f} (chance {by_chance:.1f}), p ≤ 0.05 in {clear} of {len(told)} tasks"
    (found,) = told
    halves = found["halves"]
    other = f", on the other half {100 * halves['other_half']:.1f}" if halves else ""
    return f"gap {100 * found['gap']:.1f} (chance {100 * found['chance']:.1f}, p {_p(found['p'])}){other}"


def gap_lines(report: Mapping[str, Any]) -> Lines:
    """Both levels' gaps of every task, in points."""
    lines: Lines = [["task", "pairs", "", "gap", "chance", "p", "other half", "reversed", "asked"]]
    for task, found in report.items():
        for level in ("question", "rationale"):
            row = found[level]
            cells = [""] * 6
            if "p" in row:
                halves = row["halves"]
                cells = [
                    _points(row["gap"]), _points(row["chance"]), _p(row["p"]),
                    _points(halves["other_half"]) if halves else "-",
                    f"{100 * halves['reversed']:.0f} %" if halves else "-",
                    str(row["preference_questions"]),
                ]  # fmt: skip
            lines.append([task if level == "question" else "", str(row["pairs"]), level, *cells])
    return lines


def technique_lines(report: Mapping[str, Any]) -> Lines:
    """How often each technique was chosen and rejected, over all tasks."""
    lines: Lines = [["technique", "drafts", "mean score", "chosen", "rejected"]]
    of_tasks = [found["techniques"] for found in report.values()]
    for name in dict.fromkeys(name for found in of_tasks for name in found):
        rows = [found[name] for found in of_tasks if name in found]
        drafts = sum(row["drafts"] for row in rows)
        mean = sum(row["drafts"] * row["mean_score"] for row in rows) / drafts
        chosen, rejected = (str(sum(row[side] for row in rows)) for side in ("chosen", "rejected"))
        lines.append([name, str(drafts), f"{100 * mean:.1f}", chosen, rejected])
    return lines


def gap_remarks(report: Mapping[str, Any]) -> list[str]:
    """What is below the tables, each in a line: lengths, ties, and where chance can't be told."""
    remarks = []
    lengths = [found["lengths"] for found in report.values() if found["lengths"]["chosen"] is not None]
    if lengths:
        chosen, rejected = (fmean(row[side] for row in lengths) for side in ("chosen", "rejected"))
        known = [row["correlation_with_score"] for row in lengths if row["correlation_with_score"] is not None]
        correlation = f"; Spearman's correlation of length and score {fmean(known):+.2f}" if known else ""
        remarks.append(f"Chosen rationales have {chosen:.0f} characters, rejected {rejected:.0f}{correlation}.")
    pairs = sum(found["rationale"]["pairs"] for found in report.values())
    best, worst = (sum(found[f"rationale_{end}_tied"] for found in report.values()) for end in ("best", "worst"))
    if best or worst:
        remarks.append(f"Of {pairs} rationale pairs {best} had several best and {worst} several worst; drawn by seed.")
    if without := sum(found["questions_without_a_rationale"] for found in report.values()):
        remarks.append(f"{without} questions lost a rationale; their scores allow for its technique.")
    if chose := sum(found.get("questions_that_chose", 0) for found in report.values()):
        remarks.append(f"{chose} questions had a say in the preference set: gaps and chance are told of the others.")
    reasons = {found[level].get("told", "") for found in report.values() for level in ("question", "rationale")}
    return remarks + [f"{reason[0].upper()}{reason[1:]}." for reason in sorted(reasons - {""})]


def _points(score: float) -> str:
    return f"{100 * score:.1f}"


def _p(p: float) -> str:
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}"
