"""The stages after the teacher's training: what each asks for, depends on, writes and counts."""

import json
from dataclasses import asdict

from arte_plugin.args import Arm
from arte_plugin.errors import StageError
from arte_plugin.manifest import Count, count_rows, hash_file, hash_of
from arte_plugin.models import fingerprint_model, student_dtype, teacher_model
from arte_plugin.rows import Draft, Score, TailoredExample, read_rows
from arte_plugin.run import Run
from arte_plugin.run_folder import Files, Made, question_count
from arte_plugin.tables import markdown_table


def regenerate(run: Run) -> None:
    """Stage 6."""
    from arte_plugin.stages import arms
    from arte_plugin.stages.regenerate import Teachers, regenerate

    if not run.aligned():
        raise StageError(f"The teacher in {run.output_dir} is not aligned yet: run `axolotl train` on this YAML first.")
    wanted = run.args.arms
    aligned = teacher_model(run.cfg, run.args, run.cache, aligned=True)
    teachers = Teachers(aligned)
    asking = run.args.elicit.model_dump(include={"seeds_per_prompt", "questions_per_prompt", "prefill", "max_calls"})
    inputs = {**run.asking(aligned), "regenerate": run.args.regenerate.model_dump(), "asking": asking}
    if wanted != ["arte"]:
        inputs["arms"] = wanted
    if arms.uses_unaligned_teacher(wanted):
        unaligned = teacher_model(run.cfg, run.args, run.cache, aligned=False)
        teachers = Teachers(aligned, unaligned)
        inputs["unaligned"] = dict(unaligned.identity)
    drafts: list[Draft] = []
    scores: list[Score] = []
    if arms.uses_drafts(wanted):
        drafts_file, scores_file = run.scored_drafts()
        drafts, scores = read_rows(drafts_file, Draft), read_rows(scores_file, Score)
        inputs |= {"drafts": hash_file(drafts_file), "scores": hash_file(scores_file)}

    def work() -> Made:
        made = [
            regenerate(
                task,
                teachers,
                wanted,
                [draft for draft in drafts if draft.task == task.name],
                [score for score in scores if score.task == task.name],
                run.args.regenerate,
                run.args.elicit,
                run.args.seed,
            )
            for task in run.tasks
        ]
        files: Files = {}
        counts: list[Count] = []
        dropped = [row for of_task in made for row in of_task.dropped_questions]
        if any(arms.ARMS[arm].questions == "aligned" for arm in wanted):
            questions, asked_for = sum(m.questions for m in made), run.args.regenerate.questions * len(run.tasks)
            counts.append(question_count(questions, asked_for, dropped))
        for arm in wanted:
            examples = [row for of_task in made for row in of_task.examples[arm]]
            lost = [row for of_task in made for row in of_task.dropped[arm]]
            counts.append(count_rows("examples" if wanted == ["arte"] else arm, len(examples), lost))
            files[run.examples_file(arm)] = examples
            dropped += lost
        # Arms that share their rows have lost the same ones.
        files[run.out.file("regenerate", "dropped.jsonl")] = list(dict.fromkeys(dropped))
        return files, counts, {}

    run.out.stage("regenerate", inputs, work, [one for one in (aligned, teachers.unaligned) if one])


def sft(run: Run) -> None:
    """Stage 7, for every arm; arms with the same examples have one student."""
    trained: dict[str, Arm] = {}
    for arm in run.args.arms:
        examples = hash_file(run.examples_file(arm))
        _sft(run, arm, like=trained.setdefault(examples, arm))


def _sft(run: Run, arm: Arm, like: Arm) -> None:
    from arte_plugin.stages import sft

    tailored = run.examples_file(like)
    folder = run.out.file("sft", "" if like == "arte" else like)
    config = sft.student_config(run.cfg, run.args.student, tailored, folder, run.args.seed)
    inputs = {
        "student": fingerprint_model(run.args.student.base_model),
        "tailored": hash_file(tailored),
        "config": hash_of(config),
    }

    def work() -> Made:
        examples = read_rows(tailored, TailoredExample)
        dropped = sft.too_long(examples, config)
        if like == arm:
            trained, note = asdict(sft.train(config, folder)), ""
        else:
            trained, note = run.out.manifest.stages()[_sft_stage(like)].result, f"the same examples as {like}"
        counts = [count_rows("examples", len(examples) - len(dropped), dropped, note)]
        return {folder / "dropped.jsonl": dropped}, counts, trained

    run.out.stage(_sft_stage(arm), inputs, work)


def evaluate(run: Run) -> None:
    """Stage 8."""
    from arte_plugin.stages.benchmarks import run_benchmarks
    from arte_plugin.stages.compare import compare, comparison_lines
    from arte_plugin.stages.evaluate import evaluate, result_lines
    from arte_plugin.stages.sft import TrainedStudent

    base = run.args.student.base_model
    finished = run.out.manifest.stages()
    students = {"base": TrainedStudent(base)}
    students |= {arm: TrainedStudent(**finished[_sft_stage(arm)].result) for arm in run.args.arms}
    inputs = {
        "students": {
            arm: [fingerprint_model(path) for path in (student.model, student.adapter) if path]
            for arm, student in students.items()
        },
        "prompt_style": run.args.student.prompt_style,
        "dtype": student_dtype(run.args),
        "tasks": run.task_inputs(),
        "evaluate": run.args.evaluate.model_dump(exclude={"batch_size", "benchmarks", "benchmark_limit"}),
        "wording": run.wording,
    }

    def work() -> Made:
        folder = run.out.file("evaluate", "")
        evaluated = evaluate(run.tasks, students, run.args, run.cfg, folder)
        results, comparisons = [one.result for one in evaluated], compare(evaluated)
        unparsed = sum(row.unparsed for row in results) / sum(row.n for row in results)
        answered = sum(row.n for row in results)
        counts = [Count("answers", answered, answered, note=f"{100 * unparsed:.1f} % unparsed")]
        tables = [markdown_table(lines) for lines in (result_lines(results), comparison_lines(comparisons))]
        files: Files = {
            folder / "results.json": json.dumps([asdict(row) for row in results], indent=2) + "\n",
            folder / "comparisons.json": json.dumps([asdict(row) for row in comparisons], indent=2) + "\n",
            folder / "results.md": "\n\n".join(tables) + "\n",
        }
        return files, counts, {}

    run.out.stage("evaluate", inputs, work)
    run_benchmarks(students, run.args, run.cfg, run.out.file("evaluate", ""))


def _sft_stage(arm: Arm) -> str:
    return "sft" if arm == "arte" else f"sft/{arm}"
