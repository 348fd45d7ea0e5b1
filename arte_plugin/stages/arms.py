"""What an arm's examples are made of, where no teacher is asked, and how arms come to be of equal size."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from arte_plugin.config.arms import ArmArgs
from arte_plugin.rows import Draft, Dropped, TailoredExample
from arte_plugin.stages import ties

STAGE = "regenerate"


def uses_unaligned_teacher(arms: Iterable[ArmArgs]) -> bool:
    """Whether the unaligned teacher has to be asked once more for one of `arms`."""
    return any("unaligned" in (arm.questions, rewriter(arm)) for arm in arms)


def rewriter(arm: ArmArgs) -> str:
    """Whose words an arm's rationales are, and so who is asked to rewrite them: drafts are the unaligned teacher's."""
    if arm.rationales in ("aligned", "unaligned"):
        return arm.rationales
    return "unaligned" if arm.rewriting else ""


def alike(examples: Sequence[TailoredExample], arte: Sequence[TailoredExample]) -> str:
    """How much of an arm's `examples` the aligned teacher wrote too, in words; empty for nothing."""
    examples, arte = ([replace(row, origin="") for row in of_arm] for of_arm in (examples, arte))
    if examples == arte:
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
    made: Mapping[str, Sequence[TailoredExample]],
) -> tuple[dict[str, list[TailoredExample]], dict[str, list[Dropped]]]:
    """As many examples for every arm: the first of each, one task only. The paper's arms are of equal size."""
    size = min(len(examples) for examples in made.values())
    return _cut(made, dict.fromkeys(made, size))


def cut_in_all(
    made: Mapping[str, Mapping[str, Sequence[TailoredExample]]],
) -> dict[str, tuple[dict[str, list[TailoredExample]], dict[str, list[Dropped]]]]:
    """The same over all tasks, for arms that deal them out unlike: each keeps its tasks' shares, within one example.

    `made` is by task and arm, and so is what is returned.
    """
    arms = next(iter(made.values()))
    total = min(sum(len(of_task[arm]) for of_task in made.values()) for arm in arms)
    sizes = {arm: _parts({task: len(of_task[arm]) for task, of_task in made.items()}, total) for arm in arms}
    return {task: _cut(of_task, {arm: sizes[arm][task] for arm in arms}) for task, of_task in made.items()}


def _parts(there: Mapping[str, int], total: int) -> dict[str, int]:
    """`total` of what is `there`, in its proportions; what is left over goes to the largest remainders."""
    exact = {task: total * count / sum(there.values()) for task, count in there.items()}
    parts = {task: int(part) for task, part in exact.items()}
    behind = sorted(exact, key=lambda task: parts[task] - exact[task])
    for task in behind[: total - sum(parts.values())]:
        parts[task] += 1
    return parts


def _cut(
    made: Mapping[str, Sequence[TailoredExample]], sizes: Mapping[str, int]
) -> tuple[dict[str, list[TailoredExample]], dict[str, list[Dropped]]]:
    kept = {arm: list(examples[: sizes[arm]]) for arm, examples in made.items()}
    lost = {
        arm: [Dropped(STAGE, "equal_size", row.task, arm, row.question) for row in examples[sizes[arm] :]]
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
