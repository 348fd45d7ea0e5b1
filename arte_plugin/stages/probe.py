"""Stage 3: the student answers the preference set with each draft as its one example, which makes the draft's score."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.plan.calls import of_drafts, piloted, probes_made
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import AnswerLikelihood, Draft, PreferenceQuestion, read_rows
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import Count, hash_file
from arte_plugin.show.tables import markdown_table
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
    writes = ("probes.jsonl", "likelihoods.jsonl", "scores.jsonl", "readable.md")

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        return makes_drafts

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterator[Work]:
        students, settings, asked_before = len(args.students), args.probe, piloted(args, task)
        # What the pilot has asked is not asked again.
        known = asked_before * task.size if settings.score == "answers" and settings.budget == "full" else 0
        drafts, probes = (task.drafts - asked_before) * students, (probes_made(args, task) - known) * students
        yield of_drafts(self.name, "probes", args, task, drafts, probes)

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
        from arte_plugin.stages.likelihood import likelihood_scores, weigh
        from arte_plugin.stages.probing import Tally, probe, probe_racing
        from arte_plugin.stages.readable import readable_lines

        settings = run.args.probe
        drafts = read_rows(self.read(run, "drafts"), Draft)
        chosen = read_rows(self.read(run, "preference_set"), PreferenceQuestion)
        scores_file = self.file(run, "scores.jsonl")
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

        if settings.score != "answers":
            likelihoods: list[AnswerLikelihood] = list(of_all(weigh))
            scores = likelihood_scores(drafts, likelihoods)
            files: Files = {self.file(run, "likelihoods.jsonl"): likelihoods, scores_file: scores}
            return files, [Count("likelihoods", cells, cells), Count("scores", len(scores), len(scores))], {}
        racing = partial(probe_racing, quantile=run.args.pair.quantile, seed=run.args.seed)
        tally = Tally()
        asked = of_all(probe if settings.budget == "full" else racing)
        run.out.write_as_made(self.name, self.file(run, "probes.jsonl"), tally.counted(asked))
        scores, total = tally.scores(drafts), tally.readings.n
        # A call that racing saves is a probe that was not made.
        saved = {"saved": cells - total} if total < cells else {}
        counts = [
            Count("probes", cells, total, saved, tally.readings.note()),
            Count("scores", len(scores), len(scores)),
        ]
        table = markdown_table(readable_lines(tally.by_task, chosen)) + "\n"
        return {scores_file: scores, self.file(run, "readable.md"): table}, counts, {}


def _not_as_in_the_paper(run: "Run") -> dict[str, Any]:
    """What the scores depend on where they are not the paper's."""
    settings = run.args.probe
    if settings.score != "answers":
        return {"score": settings.score}
    if settings.budget == "racing":
        return {"budget": "racing", "racing": settings.racing.model_dump(), "quantile": run.args.pair.quantile}
    return {}
