"""Stage 3: the student answers the preference set with each draft as its one example, which makes the draft's score."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin import ranks
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.signals import reads_probes, resident
from arte_plugin.models.asking import ModelAsking
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.plan.calls import of_drafts, piloted, probes_made
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import Draft, PreferenceQuestion, Probe, Response, read_rows
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import Count, hash_file
from arte_plugin.show.tables import markdown_table
from arte_plugin.stages.measuring import BESIDE, Given, measure_all
from arte_plugin.stages.scoring import Scoring
from arte_plugin.stages.stage import Stage, asks_again

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


class ProbeDrafts(Stage):
    """Stage 3."""

    name: ClassVar[str] = "probe"
    what = "the student answers them with each draft as its one example"
    reads: ClassVar = {
        "drafts": ("elicit", "drafts.jsonl"),
        "preference_set": ("preference-set", "preference_set.jsonl"),
    }
    behind = ("preference-set",)
    writes = ("scores.jsonl", *BESIDE)

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        return makes_drafts

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        students, settings, asked_before = len(args.students), args.probe, piloted(args, task)
        # What the pilot has asked is not asked again.
        known = asked_before * task.size if settings.score == "answers" and settings.budget == "full" else 0
        drafts, probes = (task.drafts - asked_before) * students, (probes_made(args, task) - known) * students
        signals = args.chosen_signals
        alone = resident(signals)
        if alone or any(map(reads_probes, signals)):
            yield of_drafts(self.name, "probes", args, task, drafts, probes)
        for one in signals if alone is None else ():
            for work in one.made().calls(task):
                longest = work.calls * settings.max_new_tokens if work.who == "student" and work.new else work.most
                yield replace(work, stage=self.name, most=longest).times(students)

    @override
    def models(self, run: "Run") -> list[Model]:
        return [student_model(one, run.args, run.cfg, run.cache) for one in run.args.students]

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        return {
            "students": [{"name": student.name, **run.asking(student)} for student in models],
            "drafts": hash_file(self.read(run, "drafts")),
            "preference_set": hash_file(self.read(run, "preference_set")),
            "max_new_tokens": run.args.probe.max_new_tokens,
            **asks_again(run),
            **_not_as_in_the_paper(run),
        }

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        from arte_plugin.stages.probing import Tally, probe, probe_racing
        from arte_plugin.stages.readable import readable_lines

        settings = run.args.probe
        drafts = read_rows(self.read(run, "drafts"), Draft)
        chosen = read_rows(self.read(run, "preference_set"), PreferenceQuestion)
        cells = 0

        def of_all(ask: Callable[..., Iterable[Any]]) -> Iterator[Any]:
            nonlocal cells
            for student in models:
                for task in run.tasks:
                    of_task = [draft for draft in drafts if draft.task == task.name]
                    questions = [question for question in chosen if question.task == task.name]
                    cells += len(of_task) * len(questions)
                    yield from ask(task, of_task, questions, student, settings)
                student.close()

        racing = partial(probe_racing, quantile=run.args.pair.quantile, seed=run.args.seed)
        ask = probe if settings.budget == "full" else racing
        write = partial(run.out.write_as_made, self.name, self.file(run, "probes.jsonl"))
        if resident(run.args.chosen_signals) != "answers":
            return self._measured(run, models, Given(run.tasks, drafts, chosen, _responses(run)), ask, write)
        tally = Tally()
        write(tally.counted(of_all(ask)))
        scores, total = tally.scores(drafts), tally.readings.n
        # A call that racing saves is a probe that was not made.
        saved = {"saved": cells - total} if total < cells else {}
        counts = [
            Count("probes", cells, total, saved, tally.readings.note()),
            Count("scores", len(scores), len(scores)),
        ]
        table = markdown_table(readable_lines(tally.by_task, chosen)) + "\n"
        files: Files = {self.file(run, "scores.jsonl"): scores, self.file(run, "readable.md"): table}
        self._remove_others(run, [*files, self.file(run, "probes.jsonl")])
        return files, counts, {}

    def _measured(
        self, run: "Run", models: Sequence[Model], given: Given, ask: Callable[..., Iterable[Probe]],
        write: Callable[[Iterable[Probe]], None],
    ) -> Made:  # fmt: skip
        """Where the paper's score isn't the only one."""
        # Whoever is asked is closed with the others, and counted.
        asked = models if isinstance(models, list) else list(models)

        def teacher() -> Model:
            asked.append(teacher_model(run.cfg, run.args, run.cache))
            return asked[-1]

        settings = run.args.probe
        asking = ModelAsking(list(models), teacher, settings, run.args.elicit.max_new_tokens, run.args.seed, self.name)
        scoring = Scoring(run.args.chosen_signals)
        made = measure_all(given, scoring, asking, partial(ask, settings=settings), write, partial(self.file, run))
        probed = any(map(reads_probes, scoring.signals))
        self._remove_others(run, [*made[0], *([self.file(run, "probes.jsonl")] if probed else [])])
        return made

    def _remove_others(self, run: "Run", made: Sequence[Path]) -> None:
        """Take away what other signals left: nobody is to read their probes, or their question scores, beside these."""
        if ranks.is_first():
            run.out.overwrites(self.name)
            for name in BESIDE:
                if (path := self.file(run, name)) not in made:
                    path.unlink(missing_ok=True)


def _not_as_in_the_paper(run: "Run") -> dict[str, Any]:
    """What the scores depend on where they are not the paper's."""
    settings, signals = run.args.probe, run.args.chosen_signals
    alone = resident(signals)
    if alone is None:
        answered = run.out.file("preference-set", "responses.jsonl")
        return {
            "signals": [one.identity for one in signals],
            # Evidence for those that read them.
            **({"responses": hash_file(answered)} if answered.is_file() else {}),
        }
    if alone != "answers":
        return {"score": alone}
    if settings.budget == "racing":
        return {"budget": "racing", "racing": settings.racing.model_dump(), "quantile": run.args.pair.quantile}
    return {}


def _responses(run: "Run") -> list[Response]:
    file = run.out.file("preference-set", "responses.jsonl")
    return read_rows(file, Response) if file.is_file() else []
