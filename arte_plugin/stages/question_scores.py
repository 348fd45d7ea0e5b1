"""s_q, how much the student likes a question: the mean of its rationales' s_r (paper, eq. 2, 4)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from arte_plugin.rows import Draft


def question_scores(drafts: Sequence[Draft], scored: Mapping[str, float]) -> dict[str, float]:
    """s_q by question id, of the drafts of one task; `scored` is s_r by draft id.

    A question that lost a rationale on the way would be better or worse by the technique that it lost. Where that
    happened, s_q is a question's part in s_r = question + technique, fitted by least squares over the task: for a
    question with all its rationales, the mean as ever.
    """
    effects = technique_effects(drafts, scored)
    by_question: dict[str, list[float]] = {}
    for draft in drafts:
        of_question = by_question.setdefault(draft.question_id, [])
        of_question.append(scored[draft.draft_id] - effects.get(draft.technique, 0.0))
    return {question: fmean(values) for question, values in by_question.items()}


def incomplete(drafts: Sequence[Draft]) -> int:
    """Questions that lack a rationale in a technique which others have; `drafts` are those of one task."""
    by_question: dict[str, set[str]] = {}
    for draft in drafts:
        by_question.setdefault(draft.question_id, set()).add(draft.technique)
    techniques = set().union(*by_question.values())
    return sum(of_question != techniques for of_question in by_question.values())


def technique_effects(drafts: Sequence[Draft], scored: Mapping[str, float]) -> dict[str, float]:
    """What a technique adds to s_r, 0 in the mean over techniques; empty where all questions have all of them."""
    if not incomplete(drafts):
        return {}
    questions = Counter(draft.question_id for draft in drafts)
    techniques = Counter(draft.technique for draft in drafts)
    effect = dict.fromkeys(techniques, 0.0)
    for _ in range(200):
        of_question = dict.fromkeys(questions, 0.0)
        for draft in drafts:
            share = (scored[draft.draft_id] - effect[draft.technique]) / questions[draft.question_id]
            of_question[draft.question_id] += share
        new = dict.fromkeys(techniques, 0.0)
        for draft in drafts:
            share = (scored[draft.draft_id] - of_question[draft.question_id]) / techniques[draft.technique]
            new[draft.technique] += share
        middle = fmean(new.values())
        new = {technique: value - middle for technique, value in new.items()}
        moved = max(abs(new[technique] - effect[technique]) for technique in techniques)
        effect = new
        if moved < 1e-9:
            break
    return effect
