"""Stage 2, second half: the most discriminating validation questions become the preference set (section 3.2)."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from arte_plugin.config.preference_set import PreferenceSetArgs
from arte_plugin.errors import DataError
from arte_plugin.rows import PreferenceQuestion, Question, Response
from arte_plugin.stages import irt
from arte_plugin.stages.stability import UNTOLD, stability


def choose(
    questions: Sequence[Question], responses: Sequence[Response], settings: PreferenceSetArgs, seed: int
) -> tuple[list[PreferenceQuestion], dict[str, Any]]:
    """The preference set of one task, and what `irt.json` says of it, in one form for every method.

    Raises `DataError` when more questions are wanted than there are, or when a respondent's answer is missing.
    """
    if settings.method == "all":
        return _control("all", questions, {question.question_id for question in questions})
    if settings.size > len(questions):
        raise DataError(
            f"Task {questions[0].task}: `preference_set.size` is {settings.size}, but there are {len(questions)} "
            "validation questions. Lower it, or raise `validation_questions`."
        )
    if settings.method == "random":
        rng = random.Random(f"{seed}/{questions[0].task}/preference-set")
        return _control("random", questions, {q.question_id for q in rng.sample(list(questions), settings.size)})

    names, correct = _matrix(questions, responses)
    fitted = irt.fit(correct)
    best = _top(fitted, correct, settings.size, [question.question_id for question in questions])
    chosen = [
        preference_question(question, float(fitted.discrimination[i]), float(fitted.difficulty[i]))
        for i, question in enumerate(questions)
        if i in best
    ]
    report = {
        "method": "irt",
        "converged": fitted.converged,
        "iterations": fitted.iterations,
        "log_posterior": fitted.log_posterior,
        "stability": stability(correct, best, _choose, seed),
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
                "chosen": i in best,
            }
            for i, question in enumerate(questions)
        ],
    }
    return chosen, report


def preference_question(
    question: Question, discrimination: float | None = None, difficulty: float | None = None
) -> PreferenceQuestion:
    """A validation question as one to be probed on."""
    return PreferenceQuestion(
        question.question_id, question.task, question.question, question.target, discrimination, difficulty
    )


def _control(
    method: str, questions: Sequence[Question], chosen: set[str]
) -> tuple[list[PreferenceQuestion], dict[str, Any]]:
    """A set that no respondent has a say in. Drawn anew, it shares size / validation with itself: exactly chance."""
    share = len(chosen) / len(questions)
    report = {
        "method": method,
        "stability": {**UNTOLD, "overlap": share, "chance": share},
        "respondents": [],
        "questions": [
            {"question_id": question.question_id, "chosen": question.question_id in chosen} for question in questions
        ],
    }
    return [preference_question(question) for question in questions if question.question_id in chosen], report


def _matrix(questions: Sequence[Question], responses: Sequence[Response]) -> tuple[list[str], np.ndarray]:
    names = list(dict.fromkeys(row.respondent for row in responses))
    if len({(row.respondent, row.question_id) for row in responses}) < len(responses):
        raise DataError("Two respondents have the same name, so that one would take the other's place.")
    outcomes = {(row.respondent, row.question_id): row.outcome == "correct" for row in responses}
    try:
        rows = [[outcomes[name, question.question_id] for question in questions] for name in names]
    except KeyError as error:
        raise DataError(f"The responses are incomplete: no answer of respondent and question {error}.") from error
    return names, np.array(rows, dtype=bool).reshape(len(names), len(questions))


def _top(fitted: irt.IRTFit, correct: np.ndarray, size: int, ties: Sequence[Any] | np.ndarray) -> set[int]:
    """The columns of the `size` most discriminating questions; `ties` has a key for each, to tell equal ones apart."""
    # A question that everybody or nobody gets right tells nobody apart, whatever the fit makes of it: those come last.
    # Rounded, so that questions with the same answers are told apart by key, not by the optimiser's last digits.
    flat = np.ptp(correct.astype(int), axis=0) == 0
    alpha = fitted.discrimination
    ranked = sorted(range(correct.shape[1]), key=lambda i: (flat[i], -round(float(alpha[i]), 4), ties[i]))
    return set(ranked[:size])


def _choose(correct: np.ndarray, size: int, ties: np.ndarray) -> set[int]:
    return _top(irt.fit(correct), correct, size, ties)
