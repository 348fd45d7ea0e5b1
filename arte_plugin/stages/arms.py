"""The data sets that a student can be trained on: ARTE's own, and those that the paper compares it with.

Table 2 tells apart who writes the questions and who the rationales, Table 6 which rationale of an unaligned teacher is
taken. Every arm is a pair of these two choices; arms that make the same pair hold the same rows. `unaligned` is not in
the paper: it differs from ARTE's own in nothing but the alignment, so it is what tells what the alignment is good for.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from arte_plugin.config.arms import Arm
from arte_plugin.rows import Draft, Dropped, TailoredExample
from arte_plugin.stages import ties

STAGE = "regenerate"


@dataclass(frozen=True)
class Source:
    """Where an arm's rows come from."""

    #: `drafted`: the draft questions of stage 1. `aligned` and `unaligned`: new ones of that teacher.
    questions: Literal["drafted", "aligned", "unaligned"]
    #: `aligned` and `unaligned`: that teacher's answer to the plain prompt. The others take one of a question's drafts:
    #: the best-scored one, any one, or that in the technique which does best over the whole task.
    rationales: Literal["aligned", "unaligned", "best", "random", "best_technique"]


ARMS: dict[Arm, Source] = {
    "arte": Source("aligned", "aligned"),
    "unaligned": Source("unaligned", "unaligned"),
    "original_teacher": Source("drafted", "best"),
    "rationale_only": Source("drafted", "aligned"),
    "question_only": Source("aligned", "unaligned"),
    "random_technique": Source("drafted", "random"),
    "most_preferred": Source("drafted", "best"),
    "task_consistent": Source("drafted", "best_technique"),
}


def uses_drafts(arms: Sequence[Arm]) -> bool:
    """Whether one of `arms` needs the drafts and their scores."""
    return any(ARMS[arm].questions == "drafted" for arm in arms)


def uses_unaligned_teacher(arms: Sequence[Arm]) -> bool:
    """Whether the unaligned teacher has to be asked once more for one of `arms`."""
    return any("unaligned" in (ARMS[arm].questions, ARMS[arm].rationales) for arm in arms)


def alike(examples: Sequence[TailoredExample], arte: Sequence[TailoredExample]) -> str:
    """How much of an arm's `examples` the aligned teacher wrote too, in words; empty for nothing."""
    if list(examples) == list(arte):
        return "the same examples as arte"
    rows, questions = set(arte), {(row.task, row.question) for row in arte}
    same_rows = sum(row in rows for row in examples)
    same_questions = sum((row.task, row.question) in questions for row in examples)
    if not same_questions:
        return ""
    return f"as in arte: {same_questions} of {len(examples)} questions, {same_rows} of them with the same rationale"


def drafted_examples(
    drafts: Sequence[Draft], score: Mapping[str, float], rationales: str, wanted: int, seed: int
) -> tuple[list[TailoredExample], list[Dropped]]:
    """One draft of each of the first `wanted` questions of a task: `best`, `random` or `best_technique`.

    `drafts` are those of one task, `score` is s_r by draft id, of every one of them. Equal scores are settled as
    in pairing. A question that has no draft in the best technique is dropped.
    """
    task = drafts[0].task
    by_question: dict[str, list[Draft]] = {}
    for draft in sorted(drafts, key=lambda draft: draft.draft_id):
        by_question.setdefault(draft.question_id, []).append(draft)
    technique = _best_technique(drafts, score, seed) if rationales == "best_technique" else None
    examples: list[TailoredExample] = []
    dropped: list[Dropped] = []
    # In the order in which the teacher wrote them.
    for question_id in list(dict.fromkeys(draft.question_id for draft in drafts))[:wanted]:
        group = by_question[question_id]
        if technique is not None:
            group = [draft for draft in group if draft.technique == technique]
        if not group:
            text = f"no draft in the technique {technique}"
            dropped.append(Dropped(STAGE, "rationale_missing", task, question_id, text))
            continue
        if rationales == "random":
            chosen = random.Random(f"{seed}/{task}/{question_id}/arm").choice(group)
        else:
            scores = {draft.draft_id: score[draft.draft_id] for draft in group}
            best = ties.ranked(scores, ties.of_question(seed, task, question_id))[0]
            chosen = next(draft for draft in group if draft.draft_id == best)
        examples.append(example(chosen))
    return examples, dropped


def example(draft: Draft) -> TailoredExample:
    """A draft as the student's training data: under the plain prompt, like every other example."""
    return TailoredExample(
        task=draft.task,
        question=draft.question,
        target=draft.target,
        rationale=draft.rationale,
        answer=draft.answer,
        prompt=draft.solve_prompt,
    )


def cut_to_equal_size(
    made: Mapping[Arm, Sequence[TailoredExample]],
) -> tuple[dict[Arm, list[TailoredExample]], dict[Arm, list[Dropped]]]:
    """As many examples for every arm: the first of each, one task only. The paper's arms are of equal size."""
    size = min(len(examples) for examples in made.values())
    kept = {arm: list(examples[:size]) for arm, examples in made.items()}
    lost = {
        arm: [Dropped(STAGE, "equal_size", row.task, arm, row.question) for row in examples[size:]]
        for arm, examples in made.items()
    }
    return kept, lost


def _best_technique(drafts: Sequence[Draft], score: Mapping[str, float], seed: int) -> str:
    """The technique with the highest mean s_r over a task, among those that could be one for the whole task.

    A technique that came to a draft for one question in ten may have the best mean by chance, and every arm would be
    cut to its few examples; so it takes drafts of at least half as many questions as the technique with most of them.
    """
    of_technique: dict[str, list[float]] = {}
    for draft in drafts:
        of_technique.setdefault(draft.technique, []).append(score[draft.draft_id])
    most = max(len(scores) for scores in of_technique.values())
    common = {name: fmean(scores) for name, scores in of_technique.items() if 2 * len(scores) >= most}
    return ties.ranked(common, f"{seed}/{drafts[0].task}/techniques/ties")[0]
