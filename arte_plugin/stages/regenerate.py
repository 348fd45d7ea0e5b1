"""Stage 6: the aligned teacher writes new questions and one rationale each; other arms (`arms.py`) beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin import ranks
from arte_plugin.config.arms import ARMS, uses_drafts
from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import Draft, Dropped, Score, read_rows
from arte_plugin.run.folder import Files, Made, question_count
from arte_plugin.run.manifest import Count, StageRecord, count_rows, hash_file
from arte_plugin.show.alignment import enter_teacher, is_of_teacher
from arte_plugin.stages import arm_calls, arm_evidence, arms, kept_examples, near_duplicates
from arte_plugin.stages.agreement import disagreement_note
from arte_plugin.stages.aligned_teacher import aligned_teacher
from arte_plugin.stages.near_duplicates import near_generated
from arte_plugin.stages.stage import Stage, asks_again
from arte_plugin.stages.tailoring import Teachers

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


class Regenerate(Stage):
    """Stage 6."""

    name: ClassVar[str] = "regenerate"
    what = "the aligned teacher writes new questions, and one rationale each"
    #: For arms that take their questions from there.
    reads: ClassVar = {"drafts": ("elicit", "drafts.jsonl"), "scores": ("probe", "scores.jsonl")}
    behind = ("align",)
    writes = ("tailored.jsonl", "dropped.jsonl", near_duplicates.FILE)

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        return arm_calls.calls(self.name, args, task)

    @override
    def models(self, run: "Run") -> list[Model]:
        """The aligned teacher; for arms that need them the teacher as it was, and the students for their strategies."""
        found = [aligned_teacher(run)]
        combinations = run.args.combinations.values()
        if arms.uses_unaligned_teacher(combinations):
            found.append(teacher_model(run.cfg, run.args, run.cache))
        if not all(arm.is_plain for arm in combinations):
            found += [student_model(one, run.args, run.cfg, run.cache) for one in run.args.students]
        return found

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        teachers, students = _by_role(run, models)
        asking = run.args.elicit.model_dump(
            include={"seeds_per_prompt", "questions_per_prompt", "prefill", "max_calls"}
        )
        inputs = {**run.asking(teachers.aligned), "regenerate": run.args.regenerate.decisive(), "asking": asking}
        combinations = run.args.combinations
        if [*combinations] != ["arte"]:
            inputs["arms"] = [*combinations]
        if teachers.unaligned is not None:
            inputs["unaligned"] = dict(teachers.unaligned.identity)
        if uses_drafts(combinations.values()):
            drafts_file, scores_file = run.scored_drafts()
            inputs |= {"drafts": hash_file(drafts_file), "scores": hash_file(scores_file), "weights": run.weights}
        if before := run.args.kept_from:
            inputs["kept"] = kept_examples.hashes_of_kept([*combinations], Path(before))
        if own := {name: arm.identity for name, arm in combinations.items() if name not in ARMS}:
            inputs["own_arms"] = own
        if students:
            inputs |= {
                "evidence": arm_evidence.hashes(run),
                "students": [{"name": student.name, **run.asking(student)} for student in students],
                "replies": {"max_new_tokens": run.args.probe.max_new_tokens, **asks_again(run)},
            }
            if run.weights:
                inputs["weights"] = run.weights
        return inputs

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        from arte_plugin.models.asking import ModelAsking
        from arte_plugin.stages.probing import preference_scores
        from arte_plugin.stages.tailoring import regenerate

        teachers, students = _by_role(run, models)
        wanted = run.args.combinations
        drafts: list[Draft] = []
        scored: dict[str, float] = {}
        if uses_drafts(wanted.values()):
            drafts_file, scores_file = run.scored_drafts()
            drafts = read_rows(drafts_file, Draft)
            scored = preference_scores(read_rows(scores_file, Score), run.weights)
        before = run.args.kept_from
        kept = kept_examples.read_kept([*wanted], Path(before)) if before else {}
        tasks = kept_examples.with_kept_taken(run.tasks, kept)
        service = None
        if students:
            service = ModelAsking(
                students, lambda: teachers.aligned, run.args.probe, run.args.regenerate.max_new_tokens,
                run.args.sampling_seed, self.name,
                *([lambda: teachers.by_name("unaligned")] if teachers.unaligned else []),
            )  # fmt: skip
        evidence = arm_evidence.of_tasks(run) if students else {}
        made = regenerate(
            tasks, teachers, wanted, drafts, scored, run.args.regenerate, run.args.elicit, run.args.sampling_seed,
            evidence, service, kept,
        )  # fmt: skip
        files: Files = {}
        counts: list[Count] = []
        dropped: list[Dropped] = []
        for writer in sorted(made[0].questions, key=lambda one: [*_WRITTEN, one].index(one)):
            lost = [row for of_task in made for row in of_task.dropped_questions[writer]]
            asked_for = sum(of_task.wanted[writer] for of_task in made)
            held = [count for of_task in made for count in of_task.held[writer]]
            ordered = [count for of_task in made for count in of_task.ordered[writer]]
            written = sum(of_task.questions[writer] for of_task in made)
            count = question_count(written, asked_for, lost, held, round(fmean(ordered)))
            counts.append(replace(count, what=_WRITTEN.get(writer, f"questions of {writer}")))
            dropped += lost
        examples = {arm: [row for of_task in made for row in of_task.examples[arm]] for arm in wanted}
        for arm in wanted:
            lost = [row for of_task in made for row in of_task.dropped[arm]]
            given = [(row.answer, row.target) for row in examples[arm]]
            notes = [disagreement_note(given, [run.kinds[row.task] for row in examples[arm]])]
            if (arm == "unaligned" or arm not in ARMS) and "arte" in wanted:
                notes.append(arms.alike(examples[arm], examples["arte"]))
            if kept:
                notes.append(f"beside {len(kept[arm])} kept from the rounds before")
            note = ", ".join(filter(None, notes))
            counts.append(count_rows("examples" if [*wanted] == ["arte"] else arm, len(examples[arm]), lost, note))
            files[run.examples_file(arm)] = [*kept.get(arm, ()), *examples[arm]]
            dropped += lost
        near = [
            row
            for name, arm in wanted.items()
            for task in run.tasks
            if arm.questions != "drafted"
            for row in near_generated(task, name, [one.question for one in examples[name] if one.task == task.name])
        ]
        files[self.file(run, near_duplicates.FILE)] = near_duplicates.as_json(near)
        # Arms that share all their rows have lost the same ones; those of one teacher are told from the other's.
        files[self.file(run, "dropped.jsonl")] = list(dict.fromkeys(dropped))
        return files, counts, {}

    @override
    def ends(self, run: "Run") -> None:
        if ranks.is_first():
            enter_teacher(run.out.manifest, self.name)

    @override
    def differences(
        self, record: StageRecord, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
    ) -> Iterator[bool]:
        yield from super().differences(record, folder, stages, elsewhere)
        if "align" in stages:
            yield not is_of_teacher(record, stages["align"])


#: What the counts call the questions of the paper's plan; those of others are called after their arm.
_WRITTEN = {"aligned": "questions", "unaligned": "questions of the unaligned teacher"}


def _by_role(run: "Run", models: Sequence[Model]) -> tuple[Teachers, Sequence[Model]]:
    """The teachers and the students of `Regenerate.models`."""
    aligned, *others = models
    unaligned = others.pop(0) if arms.uses_unaligned_teacher(run.args.combinations.values()) else None
    return Teachers(aligned, unaligned), others
