"""Stage 2: respondents answer the validation questions, and the most discriminating ones become the preference set."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.plan.calls import PAGE, of_drafts, piloted
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import Draft, PreferenceQuestion, Response, read_rows
from arte_plugin.run.folder import Made
from arte_plugin.run.manifest import Count, StageRecord, hash_file
from arte_plugin.stages import STAGES
from arte_plugin.stages.respondents import Respondent
from arte_plugin.stages.stage import Stage, asks_again, differs

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


class PreferenceSet(Stage):
    """Stage 2."""

    name: ClassVar[str] = "preference-set"
    what = "respondents answer the validation questions; IRT picks the discriminating ones"
    writes = ("preference_set.jsonl", "responses.jsonl", "irt.json")

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        return makes_drafts

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        of, longest = task.student, args.probe.max_new_tokens
        own = of.question + of.frame + of.chat_behind
        for shots in task.shots if args.preference_set.method == "irt" else ():
            shared = of.chat_before + of.before + shots * of.shot
            calls = task.validation
            yield Work(
                self.name, "respondents", "student", calls, calls * (shared + own),
                shared + calls * (own + PAGE / 2), calls * of.reply, calls * longest,
            )  # fmt: skip
        students = len(args.students)
        count = piloted(args, task)
        yield of_drafts(self.name, "pilot", args, task, count * students, count * students * task.validation)

    @override
    def models(self, run: "Run") -> list[Model]:
        """The respondents, then the students that answer with drafts."""
        asked = [student_model(one.like, run.args, run.cfg, run.cache, one.settings) for one in _respondents(run)]
        pilots = run.args.students if _has_pilots(run) else []
        return [*asked, *(student_model(one, run.args, run.cfg, run.cache) for one in pilots)]

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        respondents = _respondents(run)
        students = models[len(respondents) :]
        inputs: dict[str, Any] = {
            "respondents": [
                (model.identity, one.settings.shots, model.renderer.identity)
                for model, one in zip(models[: len(respondents)], respondents, strict=True)
            ],
            "tasks": run.task_inputs(),
            **run.shot_inputs(),
            # The check comes later and has no say in the set.
            "preference_set": run.args.preference_set.decisive("consistency_questions"),
            "max_new_tokens": run.args.probe.max_new_tokens,
            **asks_again(run),
            "seed": run.args.seed,
        }
        if students:
            inputs["pilot"] = {
                "students": [{"name": student.name, **run.asking(student)} for student in students],
                "drafts": hash_file(run.out.file("elicit", "drafts.jsonl")),
            }
        return inputs

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        from arte_plugin.stages.choosing import choose
        from arte_plugin.stages.pilot import drawn, pilot
        from arte_plugin.stages.readable import Readings
        from arte_plugin.stages.respond import respond

        settings, respondents = run.args.preference_set, _respondents(run)
        students = models[len(respondents) :]
        responses: list[Response] = []
        drafts = read_rows(run.out.file("elicit", "drafts.jsonl"), Draft) if students else []
        for student in students:
            for task in run.tasks:
                of_task = [draft for draft in drafts if draft.task == task.name]
                some = drawn(of_task, settings.pilot_drafts, run.args.seed)
                responses += pilot(task, some, student, run.args.probe)
            student.close()
        for model, respondent in zip(models[: len(respondents)], respondents, strict=True):
            for shots in respondent.settings.shots:
                for task in run.shown_tasks:
                    responses += respond(task, model, respondent.name, shots, run.args.probe, run.args.seed)
            model.close()
        chosen: list[PreferenceQuestion] = []
        fits: dict[str, Any] = {}
        for task in run.tasks:
            answered = [row for row in responses if row.task == task.name]
            questions, fits[task.name] = choose(task.validation, answered, settings, run.args.seed)
            chosen += questions
        validation = sum(len(task.validation) for task in run.tasks)
        counts = [Count("questions", validation, len(chosen), {"less_discriminating": validation - len(chosen)})]
        if responses:
            counts.append(Count("responses", len(responses), len(responses), note=Readings.of(responses).note()))
        return {
            self.file(run, "responses.jsonl"): responses,
            self.file(run, "preference_set.jsonl"): chosen,
            self.file(run, "irt.json"): json.dumps(fits, indent=2) + "\n",
        }, counts, {}  # fmt: skip

    @override
    def differences(
        self, record: StageRecord, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
    ) -> Iterator[bool]:
        yield from super().differences(record, folder, stages, elsewhere)
        yield differs(record.inputs.get("pilot", {}).get("drafts"), folder / STAGES["elicit"] / "drafts.jsonl")

    @override
    def shown(self, folder: Path) -> str:
        from arte_plugin.show.preference_set import preference_set_tables
        from arte_plugin.stages.set_consistency import preference_set_report

        report = preference_set_report(folder)
        return preference_set_tables(report) if report else ""


def _respondents(run: "Run") -> list[Respondent]:
    return run.respondents if run.args.preference_set.method == "irt" else []


def _has_pilots(run: "Run") -> bool:
    settings = run.args.preference_set
    return bool(settings.pilot_drafts) and settings.method == "irt"
