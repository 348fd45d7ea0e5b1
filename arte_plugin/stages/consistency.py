"""Behind stage 3, if asked for: how well the preference set stands for the whole validation set."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.plan.calls import of_drafts, probes_made
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, iter_rows, read_rows
from arte_plugin.run.folder import Made
from arte_plugin.run.manifest import Count, hash_file
from arte_plugin.stages.stage import Stage, asks_again

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


class Consistency(Stage):
    """The paper's check of the preference set: `set_consistency` has what is counted."""

    #: Which puts it below `probe` in the stage table.
    name: ClassVar[str] = "probe/consistency"
    what = "some drafts are probed on all validation questions: does the preference set stand for these?"
    reads: ClassVar = {
        "drafts": ("elicit", "drafts.jsonl"),
        "preference_set": ("preference-set", "preference_set.jsonl"),
        "probes": ("probe", "probes.jsonl"),
    }
    behind = ("probe",)
    writes = ("consistency.json", "consistency_probes.jsonl")

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        return makes_drafts and bool(args.preference_set.consistency_questions)

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        count = min(args.preference_set.consistency_questions, task.questions)
        checked = count * task.techniques * len(args.students)
        # Racing has left some of the set's own probes out; those are made for the check.
        missing = task.size * (1 - probes_made(args, task) / max(1, task.drafts * task.size))
        more = round(checked * (task.validation - task.size + missing))
        yield of_drafts("probe", "consistency", args, task, checked, more)

    @override
    def models(self, run: "Run") -> list[Model]:
        return [student_model(one, run.args, run.cfg, run.cache) for one in run.args.students]

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        from arte_plugin.stages.set_consistency import RANDOM_SETS

        return {
            "students": [{"name": student.name, **run.asking(student)} for student in models],
            **{key: hash_file(self.read(run, key)) for key in self.reads},
            "max_new_tokens": run.args.probe.max_new_tokens,
            **asks_again(run),
            "questions": run.args.preference_set.consistency_questions,
            "random_sets": RANDOM_SETS,
        }

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        from arte_plugin.stages.choosing import preference_question
        from arte_plugin.stages.probing import Tally, probe
        from arte_plugin.stages.set_consistency import check, drawn

        count, seed = run.args.preference_set.consistency_questions, run.args.seed
        drafts = read_rows(self.read(run, "drafts"), Draft)
        chosen = read_rows(self.read(run, "preference_set"), PreferenceQuestion)
        checked = {
            task.name: drawn([draft for draft in drafts if draft.task == task.name], count, seed) for task in run.tasks
        }
        wanted = {draft.draft_id for of_task in checked.values() for draft in of_task}
        known = [row for row in iter_rows(self.read(run, "probes"), Probe) if row.draft_id in wanted]
        found: dict[str, dict[str, Any]] = {}

        def probes() -> Iterator[Probe]:
            for task in run.tasks:
                in_set = {question.preference_id for question in chosen if question.task == task.name}
                # Racing has left some of the set's own probes out; those that were made are not asked again.
                left_out = in_set if run.args.probe.budget == "full" else set()
                rest = [preference_question(q) for q in task.validation if q.question_id not in left_out]
                of_task = checked[task.name]
                more = [row for student in models for row in probe(task, of_task, rest, student, run.args.probe)]
                validation = [question.question_id for question in task.validation]
                found[task.name] = check(of_task, [*known, *more], validation, in_set, seed)
                yield from more

        tally = Tally()
        run.out.write_as_made(self.name, self.file(run, "consistency_probes.jsonl"), tally.counted(probes()))
        total = tally.readings.n
        of_students = [one for by_student in found.values() for one in by_student.values()]
        compared = sum(one["preference_set"]["compared"] for one in of_students)
        tied = {
            "tied_on_preference_set": sum(one["preference_set"]["tied"] for one in of_students),
            "tied_on_validation_set": sum(one["tied_on_validation_set"] for one in of_students),
        }
        counts = [
            Count("probes", total, total, note=tally.readings.note() if total else ""),
            Count("questions", compared + sum(tied.values()), compared, {k: n for k, n in tied.items() if n}),
        ]
        return {self.file(run, "consistency.json"): json.dumps(found, indent=2) + "\n"}, counts, {}
