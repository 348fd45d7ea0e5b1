"""Stage 6: the aligned teacher writes new questions and one rationale each; other arms (`arms.py`) beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin import ranks
from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.model import Model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.plan.calls import plain, questions
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import Draft, Dropped, Score, read_rows
from arte_plugin.run.folder import Files, Made, question_count
from arte_plugin.run.manifest import Count, StageRecord, count_rows, hash_file
from arte_plugin.show.alignment import enter_teacher, is_of_teacher
from arte_plugin.stages import arms, kept_examples, near_duplicates
from arte_plugin.stages.agreement import disagreement_note
from arte_plugin.stages.aligned_teacher import aligned_teacher
from arte_plugin.stages.near_duplicates import near_generated
from arte_plugin.stages.stage import Stage

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
        of, longest = task.teacher, args.regenerate.max_new_tokens
        for teacher in ("aligned", "unaligned"):
            if any(arms.ARMS[arm].questions == teacher for arm in args.arms):
                yield questions(self.name, "tailored questions", args, task, task.examples, longest)
        solve = of.chat + of.before + of.frame + of.question
        for source in dict.fromkeys(arms.ARMS[arm] for arm in args.arms):
            if source.rationales in ("aligned", "unaligned"):
                wanted = min(task.examples, task.questions) if source.questions == "drafted" else task.examples
                yield plain(self.name, "tailored rationales", "teacher", wanted, solve, of.rationale, longest)
                if args.regenerate.keep == "majority":
                    votes = wanted * args.regenerate.samples
                    yield plain(self.name, "rationales that vote", "teacher", votes, solve, of.rationale, longest)

    @override
    def models(self, run: "Run") -> list[Model]:
        """The aligned teacher and, for an arm that needs it, the teacher as it was."""
        found = [aligned_teacher(run)]
        if arms.uses_unaligned_teacher(run.args.arms):
            found.append(teacher_model(run.cfg, run.args, run.cache))
        return found

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        aligned, *unaligned = models
        asking = run.args.elicit.model_dump(
            include={"seeds_per_prompt", "questions_per_prompt", "prefill", "max_calls"}
        )
        inputs = {**run.asking(aligned), "regenerate": run.args.regenerate.decisive(), "asking": asking}
        if run.args.arms != ["arte"]:
            inputs["arms"] = run.args.arms
        if unaligned:
            inputs["unaligned"] = dict(unaligned[0].identity)
        if arms.uses_drafts(run.args.arms):
            drafts_file, scores_file = run.scored_drafts()
            inputs |= {"drafts": hash_file(drafts_file), "scores": hash_file(scores_file), "weights": run.weights}
        if before := run.args.kept_from:
            inputs["kept"] = kept_examples.hashes_of_kept(run.args.arms, Path(before))
        return inputs

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        from arte_plugin.stages.probing import preference_scores
        from arte_plugin.stages.tailoring import Teachers, regenerate

        wanted = run.args.arms
        drafts: list[Draft] = []
        scored: dict[str, float] = {}
        if arms.uses_drafts(wanted):
            drafts_file, scores_file = run.scored_drafts()
            drafts = read_rows(drafts_file, Draft)
            scored = preference_scores(read_rows(scores_file, Score), run.weights)
        before = run.args.kept_from
        kept = kept_examples.read_kept(wanted, Path(before)) if before else {}
        tasks = kept_examples.with_kept_taken(run.tasks, kept)
        made = regenerate(
            tasks, Teachers(*models), wanted, drafts, scored, run.args.regenerate, run.args.elicit,
            run.args.sampling_seed,
        )  # fmt: skip
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
            if kept:
                notes.append(f"beside {len(kept[arm])} kept from the rounds before")
            note = ", ".join(filter(None, notes))
            counts.append(count_rows("examples" if wanted == ["arte"] else arm, len(examples[arm]), lost, note))
            files[run.examples_file(arm)] = [*kept.get(arm, ()), *examples[arm]]
            dropped += lost
        near = [
            row
            for arm in wanted
            for task in run.tasks
            if arms.ARMS[arm].questions != "drafted"
            for row in near_generated(task, arm, [one.question for one in examples[arm] if one.task == task.name])
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
