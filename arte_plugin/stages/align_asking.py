"""What the align check asks of both teachers and of the students, in the order in which they take the machine."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arte_plugin.data.same_question import comparable
from arte_plugin.data.tasks import Task
from arte_plugin.errors import TeacherError
from arte_plugin.models.model import Model
from arte_plugin.rows import PreferencePair, PreferenceQuestion, Probe
from arte_plugin.stages import before_after as stage
from arte_plugin.stages.align_report import Liked, OfTask

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


def ask_teachers(
    run: "Run", before: Model, after: Model, held_out: Sequence[PreferencePair], trained: Sequence[PreferencePair],
    drafted: set[tuple[str, str]],
) -> tuple[dict[str, OfTask], list[stage.Weighed]]:  # fmt: skip
    """All that the teachers have to say: first the one as it was, then, with that one gone, the one as it is."""
    # The seed of stage 6: its calls are these, and in a later round those of the round before are what students know.
    settings, asking, seed = run.args.regenerate, run.args.elicit, run.args.sampling_seed
    wanted = run.args.align.questions(asking.questions)
    found = {task.name: OfTask() for task in run.tasks}
    pairs = [*held_out, *trained]
    questions: dict[str, list[Any]] = {}
    replies: dict[str, list[str]] = {}
    rationales: list[dict[str, dict[str, stage.Written]]] = []
    log_probabilities: list[list[tuple[float, float]]] = []
    for teacher in (before, after):
        written: dict[str, dict[str, stage.Written]] = {}
        for task in run.tasks:
            one = found[task.name]
            if one.skipped:
                continue
            try:
                if teacher is before:
                    new = stage.new_questions(task, teacher, settings, asking, wanted, seed)
                    questions[task.name] = [q for q in new if (task.name, comparable(q.question)) not in drafted]
                    one.repeats = len(new) - len(questions[task.name])
                    if not questions[task.name]:
                        one.skipped = "every new question repeats a draft"
                        continue
                said = stage.question_replies(task, teacher, settings, asking, wanted, seed)
                if teacher is before:
                    replies[task.name] = said
                else:
                    one.replies = len(said)
                    one.replies_changed = sum(a != b for a, b in zip(replies[task.name], said, strict=True))
                written[task.name] = stage.rationales(task, teacher, questions[task.name], settings, asking, seed)
            except TeacherError as error:
                one.skipped = stage.what_failed(error)
        rationales.append(written)
        if not (before.served or after.served):
            log_probabilities.append(stage.log_probabilities(pairs, teacher))
        teacher.close()
    first, second = rationales
    for name, one in found.items():
        if one.skipped:
            continue
        for question in questions[name]:
            was, now = first[name][question.question_id], second[name][question.question_id]
            one.rows.append(
                stage.Rewritten(
                    name, question.question_id, question.question, question.target, was.text, now.text, was.answer,
                    now.answer,
                )
            )  # fmt: skip
    weighed = [
        stage.Weighed(pair.pair_id, pair.task, pair.level, "held_out" if place < len(held_out) else "trained", *b, *a)
        for place, (pair, b, a) in enumerate(zip(pairs, *log_probabilities, strict=True) if log_probabilities else [])
    ]
    return found, weighed


def ask_students(
    run: "Run", students: Sequence[Model], of_task: Mapping[str, OfTask], preference_set: Sequence[PreferenceQuestion],
    own_set: bool,
) -> tuple[Liked, list[Probe]]:  # fmt: skip
    """What each student makes of both rationales, on questions outside of `preference_set`; the probes too."""
    liked, probes = Liked(), []
    todo: list[tuple[Task, list[stage.Rewritten], list[PreferenceQuestion]]] = []
    for task in run.tasks:
        rows = [row for row in of_task[task.name].rows if row.usable]
        questions = stage.shown_with(task, preference_set, run.args.seed, own_set)
        if not rows:
            liked.skipped[task.name] = of_task[task.name].skipped or "no question that both answered"
        elif not questions:
            liked.skipped[task.name] = "the preference set holds all validation questions"
        else:
            todo.append((task, rows, questions))
    if not any(row.changed for _, rows, _ in todo for row in rows):
        liked.skipped |= {task.name: "no rationale changed" for task, _, _ in todo}
        return liked, []
    for student in students:
        for task, rows, questions in todo:
            answers, asked = stage.ask_student(task, rows, questions, student, run.args.probe)
            liked.answers.setdefault(task.name, []).append(answers)
            probes += asked
        student.close()
    return liked, probes
