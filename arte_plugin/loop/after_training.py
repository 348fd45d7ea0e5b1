"""The stages after the teacher's training: what each asks for, depends on, writes and counts."""

import json
from dataclasses import asdict, replace

from arte_plugin import ranks, versions
from arte_plugin.diagnostics.alignment import alignment_lines
from arte_plugin.loop.check_alignment import aligned_teacher
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.models.loading import keys_and_values
from arte_plugin.models.memory import logged_peaks
from arte_plugin.models.student import student_dtype
from arte_plugin.models.teacher import teacher_model
from arte_plugin.rows import Draft, Dropped, Score, TailoredExample, read_rows
from arte_plugin.run.earlier_config import enter_trainings
from arte_plugin.run.folder import Files, Made, question_count
from arte_plugin.run.manifest import Count, count_rows, hash_file, hash_of
from arte_plugin.run.run import Run
from arte_plugin.run.trainings import Training, is_trained_over, lodges, trainings
from arte_plugin.show.alignment import (
    alignment_report,
    alignment_report_of_source,
    enter_teacher,
    remarks,
)
from arte_plugin.show.results import result_lines
from arte_plugin.show.tables import markdown_table
from arte_plugin.stages import near_duplicates
from arte_plugin.stages.agreement import disagreement_note
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.near_duplicates import near_generated
from arte_plugin.stages.student_lm import Candidate, attention
from arte_plugin.training import child
from arte_plugin.training.weight_change import Change


def regenerate(run: Run) -> None:
    """Stage 6."""
    from arte_plugin.stages import arms
    from arte_plugin.stages.probing import preference_scores
    from arte_plugin.stages.tailoring import Teachers, regenerate

    aligned = aligned_teacher(run)
    wanted = run.args.arms
    teachers = Teachers(aligned)
    asking = run.args.elicit.model_dump(include={"seeds_per_prompt", "questions_per_prompt", "prefill", "max_calls"})
    inputs = {**run.asking(aligned), "regenerate": run.args.regenerate.decisive(), "asking": asking}
    if wanted != ["arte"]:
        inputs["arms"] = wanted
    if arms.uses_unaligned_teacher(wanted):
        unaligned = teacher_model(run.cfg, run.args, run.cache)
        teachers = Teachers(aligned, unaligned)
        inputs["unaligned"] = dict(unaligned.identity)
    drafts: list[Draft] = []
    scored: dict[str, float] = {}
    if arms.uses_drafts(wanted):
        drafts_file, scores_file = run.scored_drafts()
        drafts, scored = read_rows(drafts_file, Draft), preference_scores(read_rows(scores_file, Score), run.weights)
        inputs |= {"drafts": hash_file(drafts_file), "scores": hash_file(scores_file), "weights": run.weights}

    def work() -> Made:
        made = regenerate(
            run.tasks, teachers, wanted, drafts, scored, run.args.regenerate, run.args.elicit, run.args.sampling_seed
        )
        files: Files = {}
        counts: list[Count] = []
        dropped: list[Dropped] = []
        for teacher, what in (("aligned", "questions"), ("unaligned", "questions of the unaligned teacher")):
            if any(arms.ARMS[arm].questions == teacher for arm in wanted):
                lost = [row for of_task in made for row in of_task.dropped_questions[teacher]]
                asked_for = run.args.regenerate.questions * len(run.tasks)
                held = [count for of_task in made for count in of_task.held[teacher]]
                count = question_count(
                    sum(m.questions[teacher] for m in made), asked_for, lost, held, run.args.elicit.questions_per_prompt
                )
                counts.append(replace(count, what=what))
                dropped += lost
        examples = {arm: [row for of_task in made for row in of_task.examples[arm]] for arm in wanted}
        for arm in wanted:
            lost = [row for of_task in made for row in of_task.dropped[arm]]
            given = [(row.answer, row.target) for row in examples[arm]]
            notes = [disagreement_note(given, [run.kinds[row.task] for row in examples[arm]])]
            if arm == "unaligned" and "arte" in wanted:
                notes.append(arms.alike(examples[arm], examples["arte"]))
            note = ", ".join(filter(None, notes))
            counts.append(count_rows("examples" if wanted == ["arte"] else arm, len(examples[arm]), lost, note))
            files[run.examples_file(arm)] = examples[arm]
            dropped += lost
        near = [
            row
            for arm in wanted
            for task in run.tasks
            if arms.ARMS[arm].questions != "drafted"
            for row in near_generated(task, arm, [one.question for one in examples[arm] if one.task == task.name])
        ]
        files[run.out.file("regenerate", near_duplicates.FILE)] = near_duplicates.as_json(near)
        # Arms that share all their rows have lost the same ones; those of one teacher are told from the other's.
        files[run.out.file("regenerate", "dropped.jsonl")] = list(dict.fromkeys(dropped))
        return files, counts, {}

    run.out.stage("regenerate", inputs, work, [one for one in (aligned, teachers.unaligned) if one])
    if ranks.is_first():
        enter_teacher(run.out.manifest, "regenerate")


def sft(run: Run) -> None:
    """Stage 7, for every student, arm and seed; arms with the same examples have one student."""
    alike: dict[tuple[str, str, int], Training] = {}
    likes: dict[Training, Training] = {}
    for training in trainings(run.args):
        key = (hash_file(run.examples_file(training.arm)), training.student.name, training.seed)
        likes[training] = alike.setdefault(key, training)
    # Last those whose student lies in another's folder, where another may be trained before that.
    stages, folder = run.out.manifest.stages(), run.out.file("sft", "")
    for training, like in sorted(likes.items(), key=lambda one: bool(lodges(stages, one[1].stage, folder))):
        _sft(run, training, like)


def _sft(run: Run, training: Training, like: Training) -> None:
    from arte_plugin.stages import batch
    from arte_plugin.stages import fine_tuning as sft

    if is_trained_over(run.out.manifest.stages(), training.stage, run.out.file("sft", "")):
        run.out.overwrites(training.stage)
    student = training.student
    tailored = run.examples_file(like.arm)
    folder = run.out.file("sft", like.folder)
    date = run.student_rendering(student).get("date")
    known = {"student": fingerprint_model(student.base_model, student.revision), "tailored": hash_file(tailored)}
    made_from = versions.stage_inputs(training.stage, known)
    config = sft.student_config(run.cfg, student, tailored, folder, training.seed, date, made_from)
    inputs = {**known, "config": hash_of(sft.decisive(config, student.sft))}

    peaks: dict[str, int] = {}

    def work() -> Made:
        examples = read_rows(tailored, TailoredExample)
        dropped = sft.too_long(examples, config)
        if run.source is not None and (
            there := run.source.trained(hash_of(versions.stage_inputs(training.stage, inputs)))
        ):
            trained, note = there, f"trained in {run.source.name}"
        elif like is training:
            # The training begins by clearing the folder of the student that was trained there before.
            run.out.overwrites(training.stage)
            trained = asdict(sft.train(config, folder, batch.processes(student.sft, child.gpus())))
            note = Change(**trained["change"]).note() if trained["change"] else ""
            peaks.update(logged_peaks(folder / "train.log"))
        else:
            trained, note = run.out.manifest.stages()[like.stage].result, f"the same examples as {like.arm}"
        counts = [count_rows("examples", len(examples) - len(dropped), dropped, note)]
        return {folder / "dropped.jsonl": dropped}, counts, trained

    run.out.stage(training.stage, inputs, work, peaks=lambda: peaks)


def candidates(run: Run) -> list[Candidate]:
    """The students to evaluate: each untouched, then as each arm and seed made it."""
    finished = run.out.manifest.stages()
    several = len(run.args.students) > 1
    dates = {student.name: run.student_rendering(student).get("date") for student in run.args.students}
    found = [
        Candidate(
            f"{student.name}/base" if several else "base",
            "base",
            student,
            TrainedStudent(student.base_model, revision=student.revision),
            date=dates[student.name],
        )
        for student in run.args.students
    ]
    for training in trainings(run.args):
        trained = TrainedStudent(**finished[training.stage].result)
        seed = training.seed if run.args.seeds else None
        date = dates[training.student.name]
        found.append(Candidate(training.label, training.arm, training.student, trained, seed, date))
    return found


def evaluate(run: Run) -> None:
    """Stage 8."""
    from arte_plugin.stages.benchmarks import run_benchmarks
    from arte_plugin.stages.compare import compare, comparison_lines
    from arte_plugin.stages.evaluation import evaluate
    from arte_plugin.stages.set_consistency import preference_set_report

    students, memory = candidates(run), keys_and_values(run.args)
    preference_set = preference_set_report(run.out.path)
    alignment = {}
    if run.args.align.check:
        known = {fingerprint_model(one.base_model, one.revision) for one in run.args.students}
        alignment = (
            alignment_report_of_source(run.source.folder, run.source.name, known)
            if run.source
            else alignment_report(run.out.path)
        )
    inputs = {
        "students": {
            one.label: {
                "files": one.trained.fingerprints(),
                "rendering": run.student_rendering(one.student),
                "dtype": student_dtype(one.student),
                "attention": attention(one.student, run.cfg),
            }
            for one in students
        },
        "tasks": run.task_inputs(),
        "categories": [task.args.category for task in run.tasks],
        **run.shot_inputs(),
        "preference_set": hash_of(preference_set),
        **({"alignment": hash_of(alignment)} if alignment else {}),
        "evaluate": run.args.evaluate.model_dump(exclude={"batch_size", "benchmarks", "benchmark_limit"}),
        **({"ask_again": True} if run.args.probe.ask_again else {}),
    }

    def work() -> Made:
        folder = run.out.file("evaluate", "")
        known = [run.source.results] if run.source else []
        again = run.args.probe.ask_again
        evaluated = evaluate(run.shown_tasks, students, run.args.evaluate, run.cfg, folder, known, again, memory)
        results, comparisons = [one.result for one in evaluated], compare(evaluated)
        unparsed = sum(row.unparsed for row in results) / sum(row.n for row in results)
        answered = sum(row.n for row in results)
        counts = [Count("answers", answered, answered, note=f"{100 * unparsed:.1f} % unparsed")]
        if lost := sum(task.aligned_on for task in run.tasks):
            tested = sum(len(task.test) for task in run.tasks)
            counts.append(Count("test questions", tested + lost, tested, {"aligned_on": lost}))
        tables = [markdown_table(lines) for lines in (result_lines(results), comparison_lines(comparisons))]
        if alignment:
            tables += ["\n\n".join(remarks(alignment)), markdown_table(alignment_lines(alignment))]
        held_out = [replace(task, test=task.held_out) for task in run.shown_tasks if task.held_out]
        compared = [one for one in students if one.arm in ("base", "arte")]
        settings = run.args.evaluate.model_copy(update={"limit": None})
        held_out_folder = folder / "held-out"
        on_held_out = (
            evaluate(held_out, compared, settings, run.cfg, held_out_folder, ask_again=again, memory=memory)
            if held_out
            else []
        )
        report = {
            "format": 2,
            "results": [asdict(row) for row in results],
            "comparisons": [asdict(row) for row in comparisons],
            "preference_set": preference_set,
            # Empty where it was not checked; of `from_run`, as it was checked there, with whom and on what.
            "alignment": alignment,
            # What decides whether another round follows; empty where there is one only.
            "held_out": [asdict(one.result) for one in on_held_out],
        }
        files: Files = {
            folder / "results.json": json.dumps(report, indent=2) + "\n",
            folder / "results.md": "\n\n".join(tables) + "\n",
        }
        return files, counts, {}

    run.out.stage("evaluate", inputs, work)
    enter_trainings(run.out.manifest, (training.stage for training in trainings(run.args)))
    # Where stages 7 and 8 were done already, the teacher of stage 6 is still there.
    run.out.close()
    run_benchmarks(students, run.args.evaluate, run.cfg, run.out.file("evaluate", ""), memory)
