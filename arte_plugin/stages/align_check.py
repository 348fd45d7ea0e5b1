"""The check between stages 5 and 6: did the training move the teacher, and does the student like what it writes now?

What it asks, of whom, is in `align_asking`, what that comes to in `before_after`; `align_report` puts it together.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin import ranks
from arte_plugin.config.align import TRAINED, VALIDATION
from arte_plugin.config.arte import ArteArgs
from arte_plugin.data.aligned_on import preference_set_of
from arte_plugin.data.same_question import comparable
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.plan.calls import of_drafts, plain, questions
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import Draft, PreferencePair, PreferenceQuestion, read_rows
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import StageRecord, hash_file
from arte_plugin.show.alignment import (
    CHECK,
    FILE,
    alignment_report,
    enter_teacher,
    is_of_teacher,
    remarks,
    require_change,
)
from arte_plugin.show.tables import format_table, wrap
from arte_plugin.stages.aligned_teacher import aligned_teacher
from arte_plugin.stages.stage import Stage

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


class AlignCheck(Stage):
    """Between stages 5 and 6: the teacher before and after its training."""

    name: ClassVar[str] = CHECK
    what = "did that change the teacher, and does the student like it better?"
    reads: ClassVar = {
        "pairs": ("pair", "pairs.jsonl"),
        "held_out": ("pair", "held_out.jsonl"),
        "drafts": ("elicit", "drafts.jsonl"),
        "preference_set": ("preference-set", "preference_set.jsonl"),
    }
    behind = ("align",)
    writes = (FILE, "rationales.jsonl", "probes.jsonl", "pairs.jsonl")

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        """With `from_run`, the check is that run's."""
        return args.align.check and args.from_run is None

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        of, settings, longest = task.teacher, args.align, args.regenerate.max_new_tokens
        asked = settings.questions(task.questions)
        # By the teacher as it was and by the aligned one.
        yield questions(CHECK, "check: question replies", args, task, asked, longest).times(2)
        solve = of.chat + of.before + of.frame + of.question
        yield plain(CHECK, "check: rationales", "teacher", 2 * asked, solve, of.rationale, longest)
        if not getattr(args.engine, "teacher", None):
            pairs = args.pair.question_pairs + min(args.pair.rationale_pairs, task.questions)
            held_out = int(settings.held_out * pairs)
            weighed = 2 * 2 * (held_out + min(TRAINED, pairs - held_out))
            yield plain(CHECK, "check: pairs", "teacher", weighed, solve + of.rationale, 0.0, 0)
        # A published run's preference set is not known here.
        outside = task.validation - (0 if args.pair.drafts else task.size)
        shown = 2 * asked * len(args.students)
        probes = shown * min(VALIDATION, outside or task.held_out)
        yield of_drafts(CHECK, "check: probes", args, task, shown, probes)

    @override
    def models(self, run: "Run") -> list[Model]:
        """The teacher before, the teacher after, the students."""
        students = [student_model(one, run.args, run.cfg, run.cache) for one in run.args.students]
        return [teacher_model(run.cfg, run.args, run.cache), aligned_teacher(run), *students]

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        settings, args = run.args.align, run.args
        before, after, *students = models
        drafts_file, _ = run.scored_drafts()
        set_file = _set_file(run)
        return {
            "aligned": dict(after.identity),
            "students": [{"name": student.name, **run.asking(student)} for student in students],
            "weights": run.weights,
            "teacher": run.asking(before),
            "pairs": hash_file(run.pairs_file),
            "held_out": hash_file(run.held_out_file) if settings.held_out else None,
            "drafts": hash_file(drafts_file),
            "preference_set": hash_file(set_file) if set_file else "unknown",
            "questions": settings.questions(args.elicit.questions),
            "regenerate": args.regenerate.model_dump(include={"temperature", "max_new_tokens"}),
            "asking": args.elicit.model_dump(
                include={"seeds_per_prompt", "questions_per_prompt", "prefill", "max_calls"}
            ),
            "probe": args.probe.model_dump(exclude={"batch_size", "budget", "racing", "min_readable"}),
        }

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        from arte_plugin.stages.align_asking import ask_students, ask_teachers
        from arte_plugin.stages.align_report import counts, whole_report
        from arte_plugin.stages.before_after import some_trained

        before, after, *students = models
        drafts_file, _ = run.scored_drafts()
        set_file = _set_file(run)
        held_out = read_rows(run.held_out_file, PreferencePair) if run.args.align.held_out else []
        trained = some_trained(read_rows(run.pairs_file, PreferencePair), run.args.seed)
        drafted = {(one.task, comparable(one.question)) for one in read_rows(drafts_file, Draft)}
        of_task, weighed = ask_teachers(run, before, after, held_out, trained, drafted)
        preference_set = read_rows(set_file, PreferenceQuestion) if set_file else []
        liked, probes = ask_students(run, students, of_task, preference_set, run.args.pair.drafts is None)
        report = whole_report(
            of_task, weighed, liked, [student.name for student in run.args.students], run.weights, run.args.seed,
            served=bool(before.served or after.served), set_known=set_file is not None,
        )  # fmt: skip
        files: Files = {
            self.file(run, "rationales.jsonl"): [row for one in of_task.values() for row in one.rows],
            self.file(run, "probes.jsonl"): probes,
            self.file(run, "pairs.jsonl"): weighed,
            self.file(run, FILE): json.dumps(report, indent=2) + "\n",
        }
        return files, counts(of_task, weighed, probes, report), {}

    @override
    def ends(self, run: "Run") -> None:
        """Raises `StageError` where `align.require_change` isn't met."""
        if ranks.is_first():
            enter_teacher(run.out.manifest)
        require_change(alignment_report(run.out.path), run.args.align.require_change)

    @override
    def differences(
        self, record: StageRecord, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
    ) -> Iterator[bool]:
        yield from super().differences(record, folder, stages, elsewhere)
        if "align" in stages:
            yield not is_of_teacher(record, stages["align"])

    @override
    def shown(self, folder: Path) -> str:
        from arte_plugin.diagnostics.alignment import alignment_lines

        if not (report := alignment_report(folder)):
            return ""
        return f"\n{format_table(alignment_lines(report))}\n\n" + "\n".join(map(wrap, remarks(report))) + "\n"


def _set_file(run: "Run") -> Path | None:
    """The preference set. Without one it isn't known which questions decided what was chosen: the verdict says so."""
    if run.args.pair.drafts is None:
        return run.out.file("preference-set", "preference_set.jsonl")
    return preference_set_of(run.scored_drafts()[0])
