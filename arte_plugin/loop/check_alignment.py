"""The check between stages 5 and 6: what it asks for, depends on, writes and counts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arte_plugin import ranks
from arte_plugin.config.align import CHECK_QUESTIONS
from arte_plugin.data.aligned_on import preference_set_of
from arte_plugin.data.same_question import comparable
from arte_plugin.data.tasks import Task
from arte_plugin.errors import StageError, TeacherError
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.rows import Draft, PreferencePair, PreferenceQuestion, Probe, read_rows
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import Count, hash_file
from arte_plugin.run.run import Run
from arte_plugin.show.alignment import CHECK, FILE, alignment_report, enter_teacher, require_change, verdict
from arte_plugin.stages import before_after as stage
from arte_plugin.training import aligned_weights


@dataclass
class _OfTask:
    """What both teachers wrote for a task."""

    rows: list[stage.Rewritten] = field(default_factory=list)
    replies_changed: int = 0
    replies: int = 0
    repeats: int = 0
    skipped: str = ""


def aligned_teacher(run: Run) -> Model:
    """The teacher of stage 5, whole. Raises `StageError` where it is not there."""
    if not run.aligned():
        why = f" {run.not_aligned}" if run.not_aligned else ""
        raise StageError(
            f"The teacher in {run.output_dir} is not aligned yet: run `axolotl train` on this YAML first.{why}"
        )
    if run.source is not None:
        run.record_source(run.source)
    aligned_weights.make_whole(run.aligned_dir, bool(run.cfg.get("adapter")), run.args.engine.rank_timeout)
    run.enter_weights()
    return teacher_model(run.cfg, run.args, run.cache, run.aligned_dir)


def align_check(run: Run) -> None:
    """Compare the teacher before and after stage 5; raises `StageError` where `align.require_change` isn't met."""
    settings, args = run.args.align, run.args
    before, after = teacher_model(run.cfg, args, run.cache), aligned_teacher(run)
    students = [student_model(one, args, run.cfg, run.cache) for one in args.students]
    drafts_file, _ = run.scored_drafts()
    held_out_file, own_set = run.held_out_file, args.pair.drafts is None
    # Without one it isn't known which questions decided what was chosen, and the verdict says so.
    set_file = run.out.file("preference-set", "preference_set.jsonl") if own_set else preference_set_of(drafts_file)
    inputs = {
        "aligned": dict(after.identity),
        "students": [{"name": student.name, **run.asking(student)} for student in students],
        "weights": run.weights,
        "teacher": run.asking(before),
        "pairs": hash_file(run.pairs_file),
        "held_out": hash_file(held_out_file) if settings.held_out else None,
        "drafts": hash_file(drafts_file),
        "preference_set": hash_file(set_file) if set_file else "unknown",
        "questions": check_questions(run),
        "regenerate": args.regenerate.model_dump(include={"temperature", "max_new_tokens"}),
        "asking": args.elicit.model_dump(include={"seeds_per_prompt", "questions_per_prompt", "prefill", "max_calls"}),
        "probe": args.probe.model_dump(exclude={"batch_size", "budget", "racing", "min_readable"}),
    }

    def work() -> Made:
        held_out = read_rows(held_out_file, PreferencePair) if settings.held_out else []
        trained = stage.some_trained(read_rows(run.pairs_file, PreferencePair), args.seed)
        drafted = {(one.task, comparable(one.question)) for one in read_rows(drafts_file, Draft)}
        of_task, weighed = _ask_teachers(run, before, after, held_out, trained, drafted)
        preference_set = read_rows(set_file, PreferenceQuestion) if set_file else []
        liked, probes = _ask_students(run, students, of_task, preference_set, own_set)
        report = _report(run, of_task, weighed, liked, bool(before.served or after.served), set_file is not None)
        files: Files = {
            run.out.file(CHECK, "rationales.jsonl"): [row for one in of_task.values() for row in one.rows],
            run.out.file(CHECK, "probes.jsonl"): probes,
            run.out.file(CHECK, "pairs.jsonl"): weighed,
            run.out.file(CHECK, FILE): json.dumps(report, indent=2) + "\n",
        }
        return files, _counts(of_task, weighed, probes, report), {}

    run.out.stage(CHECK, inputs, work, [before, after, *students])
    if ranks.is_first():
        enter_teacher(run.out.manifest)
    require_change(alignment_report(run.out.path), settings.require_change)


def check_questions(run: Run) -> int:
    """How many new questions a task the teachers are asked."""
    return run.args.align.check_questions or min(CHECK_QUESTIONS, run.args.elicit.questions)


def _ask_teachers(
    run: Run, before: Model, after: Model, held_out: Sequence[PreferencePair], trained: Sequence[PreferencePair],
    drafted: set[tuple[str, str]],
) -> tuple[dict[str, _OfTask], list[stage.Weighed]]:  # fmt: skip
    """All that the teachers have to say: first the one as it was, then, with that one gone, the one as it is."""
    # The seed of stage 6: its calls are these, and in a later round those of the round before are what students know.
    wanted, settings, asking, seed = check_questions(run), run.args.regenerate, run.args.elicit, run.args.sampling_seed
    found = {task.name: _OfTask() for task in run.tasks}
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


@dataclass
class _Liked:
    """What the students made of the rationales: their answers by task and student, or why there are none."""

    answers: dict[str, list[stage.Answers]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def _ask_students(
    run: Run, students: Sequence[Model], of_task: Mapping[str, _OfTask], preference_set: Sequence[PreferenceQuestion],
    own_set: bool,
) -> tuple[_Liked, list[Probe]]:  # fmt: skip
    liked, probes = _Liked(), []
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


def _report(
    run: Run, of_task: Mapping[str, _OfTask], weighed: Sequence[stage.Weighed], liked: _Liked, served: bool,
    set_known: bool,
) -> dict[str, Any]:  # fmt: skip
    rows = [row for one in of_task.values() for row in one.rows]
    students = [student.name for student in run.args.students]
    weights = [run.weights.get(name, 1.0) for name in students]
    together = {name: stage.mean_student(answers, weights) for name, answers in liked.answers.items()}
    liking: dict[str, Any] = {"skipped": next(iter(liked.skipped.values()), "no task")}
    if together:
        liking = stage.liking(list(together.values()), run.args.seed)
        if not set_known:
            liking["preference_set"] = "unknown"
        if len(students) > 1:
            liking["students"] = {
                name: stage.liking([answers[place] for answers in liked.answers.values()], run.args.seed)
                for place, name in enumerate(students)
            }
    rewards: dict[str, Any] = {
        side: stage.rewards([row for row in weighed if row.side == side]) for side in ("held_out", "trained")
    }
    if served:
        rewards["not_measured"] = "not measured: a server doesn't tell how likely a reply is"
    elif not rewards["held_out"]:
        rewards["none_held_out"] = "of trained pairs only, none were held out"
    report: dict[str, Any] = {
        "rationales": stage.share(sum(row.changed for row in rows), len(rows)),
        "replies": stage.share(
            sum(one.replies_changed for one in of_task.values()), sum(one.replies for one in of_task.values())
        ),
        "usable": {"n": len(rows), **{side: stage.usable(rows, side) for side in ("before", "after")}},
        "repeats_a_draft": sum(one.repeats for one in of_task.values()),
        "rewards": rewards,
        "liking": liking,
        "tasks": {
            name: {
                "rationales": stage.share(sum(row.changed for row in one.rows), len(one.rows)),
                "replies": stage.share(one.replies_changed, one.replies),
                "liking": stage.liking([together[name]], run.args.seed)
                if name in together
                else {"skipped": liked.skipped[name]},
                **({"skipped": one.skipped} if one.skipped else {}),
            }
            for name, one in of_task.items()
        },
    }
    return {"verdict": verdict(report), **report}


def _counts(
    of_task: Mapping[str, _OfTask], weighed: Sequence[stage.Weighed], probes: Sequence[Probe], report: Mapping[str, Any]
) -> list[Count]:
    rows = [row for one in of_task.values() for row in one.rows]
    unusable = sum(not row.usable for row in rows)
    repeats = report["repeats_a_draft"]
    dropped = {"repeats_draft": repeats, "without_answer": unusable}
    counts = [
        Count(
            "questions", len(rows) + repeats, len(rows) - unusable, {k: n for k, n in dropped.items() if n},
            report["verdict"],
        )
    ]  # fmt: skip
    if weighed:
        found = report["rewards"]["held_out"] or report["rewards"]["trained"]
        side = "held-out" if report["rewards"]["held_out"] else "trained"
        accuracy, margin = found["all"]["accuracy"], found["all"]["margin"]
        note = f"{side}: chosen preferred {100 * accuracy:.1f} % (chance: 50), margin {margin:+.2f} nats"
        counts.append(Count("pairs", len(weighed), len(weighed), note=note))
    if probes:
        counts.append(Count("probes", len(probes), len(probes)))
    return counts
