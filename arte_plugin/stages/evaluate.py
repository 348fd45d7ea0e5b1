"""Stage 8: lm-evaluation-harness asks the test questions of every student, untouched and as each arm made it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.diagnostics.alignment import alignment_lines
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.models.loading import keys_and_values
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_dtype
from arte_plugin.plan.calls import plain
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import DPO
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import Count, StageRecord, hash_of
from arte_plugin.run.trainings import TRAINED, enter_trainings, trainings
from arte_plugin.show.alignment import alignment_report, alignment_report_of_source, remarks
from arte_plugin.show.results import result_lines
from arte_plugin.show.tables import markdown_table
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.stage import Stage
from arte_plugin.stages.student_dpo import dpo_trainings, stage_of
from arte_plugin.stages.student_lm import Candidate, attention

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


def __getattr__(name: str) -> Any:
    """What task files of lm-eval name here that earlier versions have written: `lm_eval_files` has it now."""
    if name in ("judge_response", "read_questions"):
        from arte_plugin.stages import lm_eval_files

        return getattr(lm_eval_files, name)
    raise AttributeError(name)


class Evaluate(Stage):
    """Stage 8, and beside it the benchmarks of lm-eval (`benchmarks.py`), which are no stage."""

    name: ClassVar[str] = "evaluate"
    what = "lm-evaluation-harness tests the base and the tailored student"
    behind = ("sft",)
    writes = (
        "results.json",
        "results.md",
        "samples/",
        "results/",
        "lm_eval_tasks/",
        "benchmarks.json",
        "benchmarks.md",
    )
    on_one_rank = True

    @override
    def check(self, args: ArteArgs) -> None:
        """Raises `ConfigError` for a benchmark that lm-eval does not have."""
        from arte_plugin.stages.benchmark_tasks import check_names

        check_names(args.evaluate.benchmarks)

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        of, longest = task.student, args.evaluate.max_new_tokens
        test = min(task.test, args.evaluate.limit or task.test)
        # Arms with the same rows have one student.
        trained = {(one.student.name, args.combinations[one.arm].key, one.seed) for one in trainings(args)}
        compared = {one for one in trained if one[1] == args.combinations[args.leading_arm].key}
        for shots in args.evaluate.shots:
            prompt = of.chat + of.before + shots * of.shot + of.question + of.frame
            again = len([*dpo_trainings(args)])
            calls = test * (len(args.students) + len(trained) + again) + task.held_out * (
                len(args.students) + len(compared)
            )
            yield plain(self.name, "evaluation", "student", calls, prompt, of.reply, longest)

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        alignment = _alignment(run)
        return {
            "students": {
                one.label: {
                    "files": one.trained.fingerprints(),
                    "rendering": run.student_rendering(one.student),
                    "dtype": student_dtype(one.student),
                    "attention": attention(one.student, run.cfg),
                }
                for one in candidates(run)
            },
            "tasks": run.task_inputs(),
            "categories": [task.args.category for task in run.tasks],
            **run.shot_inputs(),
            "preference_set": hash_of(_preference_set(run)),
            **({"alignment": hash_of(alignment)} if alignment else {}),
            "evaluate": run.args.evaluate.model_dump(exclude={"batch_size", "benchmarks", "benchmark_limit"}),
            **({"ask_again": True} if run.args.probe.ask_again else {}),
        }

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        from arte_plugin.stages.compare import compare, comparison_lines
        from arte_plugin.stages.evaluation import evaluate

        students, memory, alignment = candidates(run), keys_and_values(run.args), _alignment(run)
        folder = self.file(run, "")
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
        compared = [one for one in students if one.arm in ("base", run.args.leading_arm)]
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
            "preference_set": _preference_set(run),
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

    @override
    def ends(self, run: "Run") -> None:
        """The benchmarks are asked, as far as they have not been."""
        from arte_plugin.stages.benchmarks import run_benchmarks

        enter_trainings(run.out.manifest, _trained_stages(run.args))
        # Where stages 7 and 8 were done already, the teacher of stage 6 is still there.
        run.out.close()
        memory = keys_and_values(run.args)
        run_benchmarks(candidates(run), run.args.evaluate, run.cfg, self.file(run, ""), memory)

    @override
    def differences(
        self, record: StageRecord, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
    ) -> Iterator[bool]:
        """The students that it looked at tell, and the tasks."""
        trained = record.result.get(TRAINED)
        if trained is None:
            # An earlier version has not entered them.
            of_sft = [one for other, one in stages.items() if other.partition("/")[0] == "sft"]
            yield any(one.finished > record.finished for one in of_sft)
        else:
            yield any(other not in stages or stages[other].inputs_hash != made for other, made in trained.items())
        if not elsewhere and "elicit" in stages:
            yield record.inputs.get("tasks") != stages["elicit"].inputs.get("tasks")

    @override
    def shown(self, folder: Path) -> str:
        from arte_plugin.show.evaluation import result_tables

        return result_tables(folder / self.folder)


def candidates(run: "Run") -> list[Candidate]:
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
        if training.student.dpo:
            again = TrainedStudent(**finished[stage_of(training)].result)
            names = f"{training.label}{DPO}", f"{training.arm}{DPO}"
            found.append(Candidate(*names, training.student, again, seed, date))
    return found


def _trained_stages(args: ArteArgs) -> list[str]:
    """The trainings whose students are evaluated, as the manifest names them."""
    return [*(one.stage for one in trainings(args)), *(stage_of(one) for one in dpo_trainings(args))]


def _preference_set(run: "Run") -> dict[str, Any]:
    from arte_plugin.stages.set_consistency import preference_set_report

    return preference_set_report(run.out.path)


def _alignment(run: "Run") -> dict[str, Any]:
    """What the align check found, if it was asked for; of `from_run`, there."""
    if not run.args.align.check:
        return {}
    known = {fingerprint_model(one.base_model, one.revision) for one in run.args.students}
    if run.source:
        return alignment_report_of_source(run.source.folder, run.source.name, known)
    return alignment_report(run.out.path)
