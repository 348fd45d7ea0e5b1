"""Stage 3, probes: the student answers the preference set with each draft as its one example (section 3.2)."""

from collections.abc import Mapping, Sequence

from arte_plugin import answers, prompts
from arte_plugin.args import ProbeArgs
from arte_plugin.engines.base import Request
from arte_plugin.errors import DataError
from arte_plugin.models import Model
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, Score, wilson
from arte_plugin.stages import racing
from arte_plugin.tasks import Task


def probe(
    task: Task,
    drafts: Sequence[Draft],
    preference_set: Sequence[PreferenceQuestion],
    student: Model,
    settings: ProbeArgs,
) -> list[Probe]:
    """One greedy, one-shot student call for each draft and preference question; a draft's siblings share a prefix."""
    return probe_cells(task, [(draft, question) for draft in drafts for question in preference_set], student, settings)


def probe_cells(
    task: Task, plan: Sequence[tuple[Draft, PreferenceQuestion]], student: Model, settings: ProbeArgs
) -> list[Probe]:
    """Like `probe`, for some drafts and questions only: those of `plan`, in its order."""
    description, kind = task.args.description, task.args.answer
    requests = [
        Request(
            prompt=student.renderer.prompt(
                prompts.solve_prompt(description, kind, question.question, [(draft.question, draft.rationale)])
            ),
            group=draft.draft_id,
            max_new_tokens=settings.max_new_tokens,
            temperature=0.0,
            seed=0,
            stop=prompts.RATIONALE_STOP,
        )
        for draft, question in plan
    ]
    probes = []
    for (draft, question), completion in zip(plan, student.ask(requests, f"probe {task.name}"), strict=True):
        answer, outcome = answers.judge(completion.text, question.target, kind)
        probes.append(
            Probe(
                draft_id=draft.draft_id,
                preference_id=question.preference_id,
                task=task.name,
                student=student.name,
                response=completion.text,
                answer=answer,
                outcome=outcome,
            )
        )
    return probes


def probe_racing(
    task: Task,
    drafts: Sequence[Draft],
    preference_set: Sequence[PreferenceQuestion],
    student: Model,
    settings: ProbeArgs,
    quantile: float,
    seed: int,
) -> list[Probe]:
    """Those of the calls of `probe` that `racing.race` asks for, in the order of `probe`."""
    by_id = {draft.draft_id: draft for draft in drafts}
    questions = {question.preference_id: question for question in preference_set}
    made: dict[racing.Cell, Probe] = {}

    def ask(cells: list[racing.Cell]) -> list[bool]:
        rows = probe_cells(task, [(by_id[draft], questions[question]) for draft, question in cells], student, settings)
        made.update(zip(cells, rows, strict=True))
        return [row.outcome == "correct" for row in rows]

    question_of = {draft.draft_id: draft.question_id for draft in drafts}
    racing.race(question_of, list(questions), settings.racing, quantile, f"{seed}/{task.name}/racing", ask)
    return [made[draft, question] for draft in by_id for question in questions if (draft, question) in made]


def score(drafts: Sequence[Draft], probes: Sequence[Probe]) -> list[Score]:
    """s_r of every draft: the share of its probes that were answered correctly; an unparsed answer is not correct."""
    by_draft: dict[tuple[str, str], list[Probe]] = {}
    for row in probes:
        by_draft.setdefault((row.draft_id, row.student), []).append(row)
    question_of = {draft.draft_id: draft.question_id for draft in drafts}
    scores = []
    for (draft_id, student), rows in by_draft.items():
        correct = sum(row.outcome == "correct" for row in rows)
        low, high = wilson(correct, len(rows))
        scores.append(
            Score(
                draft_id=draft_id,
                question_id=question_of[draft_id],
                task=rows[0].task,
                student=student,
                score=correct / len(rows),
                n=len(rows),
                low=low,
                high=high,
                unparsed=sum(row.outcome == "unparsed" for row in rows),
            )
        )
    return scores


def preference_scores(scores: Sequence[Score], weights: Mapping[str, float]) -> dict[str, float]:
    """s_r by draft id; of several students, the mean of theirs with these `weights` (empty: all the same).

    Raises `DataError` where a student in `weights` has no scores, or a draft has none from one of the students.
    """
    students = list(weights) or list(dict.fromkeys(row.student for row in scores))
    of_draft: dict[str, dict[str, float]] = {}
    for row in scores:
        of_draft.setdefault(row.draft_id, {})[row.student] = row.score
    for draft_id, by_student in of_draft.items():
        if missing := [student for student in students if student not in by_student]:
            raise DataError(
                f"Draft {draft_id} has no score from {', '.join(missing)}, only from {', '.join(by_student)}. "
                "Scores of several students must be of the same drafts and under the students' names."
            )
    total = sum(weights.get(student, 1.0) for student in students)
    return {
        draft_id: sum(weights.get(student, 1.0) * by_student[student] for student in students) / total
        for draft_id, by_student in of_draft.items()
    }
