"""Stage 3 where scores aren't the paper's alone: the probes if a signal reads them, and what all signals measure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from arte_plugin.config.signals import reads_probes, resident
from arte_plugin.data.tasks import Task
from arte_plugin.models.asking import ModelAsking
from arte_plugin.models.model import Model
from arte_plugin.plugs import Evidence
from arte_plugin.rows import Draft, Measure, PreferenceQuestion, Probe, Response
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import Count, count_rows
from arte_plugin.show.tables import markdown_table
from arte_plugin.stages.probing import Tally
from arte_plugin.stages.readable import readable_lines
from arte_plugin.stages.scoring import MEASURES, QUESTIONS, Scoring

#: What stage 3 may leave beside its scores, by the signals that are named.
BESIDE = (
    "probes.jsonl", "readable.md", "likelihoods.jsonl", MEASURES, QUESTIONS, "attempts.jsonl", "dropped.jsonl",
)  # fmt: skip

#: Makes a student's probes of a task.
Probing = Callable[[Task, Sequence[Draft], Sequence[PreferenceQuestion], Model], Iterable[Probe]]


@dataclass(frozen=True)
class Given:
    """What there is to be scored, and of which tasks."""

    tasks: Sequence[Task]
    drafts: Sequence[Draft]
    preference_set: Sequence[PreferenceQuestion]
    responses: Sequence[Response]

    def of(self, task: Task) -> tuple[list[Draft], list[PreferenceQuestion], list[Response]]:
        """Those of one task."""
        drafts = [one for one in self.drafts if one.task == task.name]
        questions = [one for one in self.preference_set if one.task == task.name]
        return drafts, questions, [one for one in self.responses if one.task == task.name]


def measure_all(
    given: Given, scoring: Scoring, asking: ModelAsking, probing: Probing,
    write_probes: Callable[[Iterable[Probe]], None], file: Callable[[str], Path],
) -> Made:  # fmt: skip
    """Let the signals of `scoring` measure every draft for every student: one student after the other.

    `probing` makes a student's probes of a task, and `write_probes` writes them as they come; `file` gives a file of
    the stage's folder by its name. A task's probes are in memory while signals read them. Raises `DataError` as
    `Scoring` does.
    """
    probed = any(map(reads_probes, scoring.signals))
    tally = Tally()

    def rows() -> Iterator[Probe]:
        for student in asking.students:
            asking.student = student
            for task in given.tasks:
                drafts, questions, responses = given.of(task)
                probes: list[Probe] = []
                for row in probing(task, drafts, questions, student) if probed else ():
                    probes.append(row)
                    yield row
                evidence = Evidence(
                    responses=responses, drafts=drafts, preference_set=questions, probes=partial(iter, probes)
                )
                scoring.measure(task, drafts, questions, asking, evidence)
            student.close()

    if probed:
        write_probes(tally.counted(rows()))
    else:
        for _ in rows():
            pass
    scores, dropped = scoring.scores(
        given.drafts, {(one.draft_id, one.student): one for one in tally.scores(given.drafts)}
    )
    files: Files = {}
    counts = []
    cells = len(asking.students) * sum(len(drafts) * len(chosen) for drafts, chosen, _ in map(given.of, given.tasks))
    if probed:
        files[file("readable.md")] = markdown_table(readable_lines(tally.by_task, given.preference_set)) + "\n"
        saved = {"saved": cells - tally.readings.n} if tally.readings.n < cells else {}
        counts.append(Count("probes", cells, tally.readings.n, saved, tally.readings.note()))
    if scoring.likelihoods:
        files[file("likelihoods.jsonl")] = scoring.likelihoods
        counts.append(Count("likelihoods", len(scoring.likelihoods), len(scoring.likelihoods)))
    if asking.attempted:
        attempts = list(asking.attempted.values())
        files[file("attempts.jsonl")] = attempts
        counts.append(Count("attempts", len(attempts), len(attempts)))
    if resident(scoring.signals) is None:
        files |= {file(MEASURES): scoring.measures, file("dropped.jsonl"): dropped}
        counts.append(Count("measures", len(scoring.measures), len(scoring.measures), note=_named(scoring)))
    if of_questions := scoring.questions():
        files[file(QUESTIONS)] = of_questions
        counts.append(Count("question scores", len(of_questions), len(of_questions)))
    files[file("scores.jsonl")] = scores
    students = len(asking.students)
    counts.append(count_rows("scores", len(scores), [row for row in dropped for _ in range(students)]))
    return files, counts, {}


def _named(scoring: Scoring) -> str:
    """How many drafts, or questions, each signal has measured."""
    found: dict[str, int] = {}
    row: Measure
    for row in scoring.measures:
        found[row.signal] = found.get(row.signal, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in found.items())
