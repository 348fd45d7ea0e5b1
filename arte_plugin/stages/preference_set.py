"""Stage 2, second half: the most discriminating validation questions become the preference set (section 3.2)."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from arte_plugin import irt
from arte_plugin.args import PreferenceSetArgs
from arte_plugin.errors import DataError
from arte_plugin.rows import PreferenceQuestion, Question, Response

RESAMPLES = 20


def choose(
    questions: Sequence[Question], responses: Sequence[Response], settings: PreferenceSetArgs, seed: int
) -> tuple[list[PreferenceQuestion], dict[str, Any]]:
    """The preference set of one task, and what `irt.json` says of it.

    Raises `DataError` when more questions are wanted than there are, or when a respondent's answer is missing.
    """
    if settings.method == "all":
        return [_row(question) for question in questions], {"method": "all"}
    if settings.size > len(questions):
        raise DataError(
            f"Task {questions[0].task}: `preference_set.size` is {settings.size}, but there are {len(questions)} "
            "validation questions. Lower it, or raise `validation_questions`."
        )
    if settings.method == "random":
        ids = {
            q.question_id
            for q in random.Random(f"{seed}/{questions[0].task}/preference-set").sample(list(questions), settings.size)
        }
        return [_row(question) for question in questions if question.question_id in ids], {"method": "random"}

    names, correct = _matrix(questions, responses)
    fitted = irt.fit(correct)
    best = _top(fitted, correct, questions, settings.size)
    chosen = [
        _row(question, float(fitted.discrimination[i]), float(fitted.difficulty[i]))
        for i, question in enumerate(questions)
        if question.question_id in best
    ]
    report = {
        "method": "irt",
        "converged": fitted.converged,
        "iterations": fitted.iterations,
        "log_posterior": fitted.log_posterior,
        "stability": _stability(questions, correct, best, settings.size, seed),
        "respondents": [
            {"respondent": name, "ability": float(ability), "accuracy": float(row.mean())}
            for name, ability, row in zip(names, fitted.ability, correct, strict=True)
        ],
        "questions": [
            {
                "question_id": question.question_id,
                "discrimination": float(fitted.discrimination[i]),
                "difficulty": float(fitted.difficulty[i]),
                "share_correct": float(correct[:, i].mean()),
                "chosen": question.question_id in best,
            }
            for i, question in enumerate(questions)
        ],
    }
    return chosen, report


def _matrix(questions: Sequence[Question], responses: Sequence[Response]) -> tuple[list[str], np.ndarray]:
    names = list(dict.fromkeys(row.respondent for row in responses))
    outcomes = {(row.respondent, row.question_id): row.outcome == "correct" for row in responses}
    try:
        rows = [[outcomes[name, question.question_id] for question in questions] for name in names]
    except KeyError as error:
        raise DataError(f"The responses are incomplete: no answer of respondent and question {error}.") from error
    return names, np.array(rows, dtype=bool).reshape(len(names), len(questions))


def _top(fitted: irt.IRTFit, correct: np.ndarray, questions: Sequence[Question], size: int) -> set[str]:
    # A question that everybody or nobody gets right tells nobody apart, whatever the fit makes of it: those come last.
    # Rounded, so that questions with the same answers are told apart by id, not by the optimiser's last digits.
    flat = np.ptp(correct.astype(int), axis=0) == 0
    alpha = fitted.discrimination
    ranked = sorted(
        range(len(questions)), key=lambda i: (flat[i], -round(float(alpha[i]), 4), questions[i].question_id)
    )
    return {questions[i].question_id for i in ranked[:size]}


def _stability(
    questions: Sequence[Question], correct: np.ndarray, best: set[str], size: int, seed: int
) -> dict[str, float]:
    """How much of the set is chosen again when respondents are drawn anew; `chance` is what any set would share."""
    rng = np.random.default_rng(seed)
    overlaps = []
    for _ in range(RESAMPLES):
        drawn = correct[rng.integers(len(correct), size=len(correct))]
        overlaps.append(len(best & _top(irt.fit(drawn), drawn, questions, size)) / size)
    return {"overlap": float(np.mean(overlaps)), "chance": size / len(questions), "resamples": RESAMPLES}


def _row(
    question: Question, discrimination: float | None = None, difficulty: float | None = None
) -> PreferenceQuestion:
    return PreferenceQuestion(
        question.question_id, question.task, question.question, question.target, discrimination, difficulty
    )
