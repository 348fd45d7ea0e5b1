"""Stage 6's work: the aligned teacher writes questions and one rationale each (section 3.4, appendix F).

Arms share what is written for one another, and ask for no more than they need. For the arm `unaligned` the teacher as
it was is asked the very same as the aligned one: prompts, seeds, sizes. Who is asked comes in turns, one model at a
time: students for plans, the aligned teacher, the one that is not, students for selectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from arte_plugin.config.arms import ArmArgs, uses_drafts
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.data.aligned_on import without_repeats
from arte_plugin.data.tasks import Task
from arte_plugin.errors import DataError, StageError
from arte_plugin.models.model import Model
from arte_plugin.planners.paper import origin_of, paper_orders
from arte_plugin.plugs import Asking, Evidence
from arte_plugin.rows import Draft, Dropped, Question, TailoredExample
from arte_plugin.stages.answering import ToAnswer, answered, rewritten
from arte_plugin.stages.arms import cut_in_all, cut_to_equal_size, drafted_examples, rewriter
from arte_plugin.stages.chains import Plan, planned, selected
from arte_plugin.stages.new_questions import write_questions
from arte_plugin.stages.orders import RESIDENTS, Orders, Ways

STAGE = "regenerate"

Made = tuple[list[TailoredExample], list[Dropped]]


@dataclass(frozen=True)
class Teachers:
    """Who is asked: the aligned teacher and, for an arm that needs it, the teacher as it was."""

    aligned: Model
    unaligned: Model | None = None

    def by_name(self, whose: str) -> Model:
        """`aligned` or `unaligned`."""
        return self.unaligned if whose == "unaligned" and self.unaligned is not None else self.aligned


@dataclass
class Regenerated:
    """What stage 6 made for one task.

    New questions go by who wrote them: `aligned` and `unaligned` for those of the paper's plan, otherwise by the first
    arm with that plan.
    """

    #: How many there were before they were answered, and how many were wanted; what was dropped of them.
    questions: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    dropped_questions: dict[str, list[Dropped]] = field(default_factory=dict)
    #: How many questions each reply held, and how many it was asked for.
    held: dict[str, list[int]] = field(default_factory=dict)
    ordered: dict[str, list[int]] = field(default_factory=dict)
    examples: dict[str, list[TailoredExample]] = field(default_factory=dict)
    dropped: dict[str, list[Dropped]] = field(default_factory=dict)


def regenerate(
    tasks: Sequence[Task],
    teachers: Teachers,
    arms: Mapping[str, ArmArgs],
    drafts: Sequence[Draft],
    scored: Mapping[str, float],
    settings: RegenerateArgs,
    asking: ElicitArgs,
    seed: int,
    evidence: Mapping[str, Evidence] | None = None,
    service: Asking | None = None,
    kept: Mapping[str, Sequence[TailoredExample]] | None = None,
) -> list[Regenerated]:
    """The examples of each arm, task by task; `asking` says how questions are asked for, as in stage 1.

    `scored` is s_r by draft id, empty where no arm uses drafts. `evidence`, by task, and `service` are for the planners
    and selectors of arms that are not plain, and so is what each arm has `kept` of earlier rounds; arms that share a
    plan begin it with what the first of them has. Whatever is asked, a teacher is let go before another model is
    loaded. Raises `TeacherError` when a teacher writes nothing usable, `DataError` when an arm needs drafts of a task
    and there are none with a score, `StageError` when an arm's plan or its selectors leave it without an example.
    """
    work = _Work(tasks, teachers, arms, settings, asking, seed, evidence or {}, service, kept or {})
    for task in tasks:
        work.take_drafts(task, [draft for draft in drafts if draft.task == task.name], scored)
    work.plan()
    for place, whose in enumerate(turns := _turns(arms)):
        if place:
            teachers.by_name(turns[place - 1]).close()
        for task in tasks:
            work.write(task, whose)
    return work.finished()


def _turns(arms: Mapping[str, ArmArgs]) -> list[str]:
    """Which teacher is asked when; the aligned one again only to answer questions of the other."""
    turns = ["aligned"]
    if any("unaligned" in (arm.questions, rewriter(arm)) for arm in arms.values()):
        turns.append("unaligned")
    if any((arm.questions, arm.rationales) == ("unaligned", "aligned") for arm in arms.values()):
        turns.append("aligned")
    return turns


class _Work:
    """What has been made so far, each thing once, whichever arms it is for."""

    def __init__(
        self, tasks: Sequence[Task], teachers: Teachers, arms: Mapping[str, ArmArgs], settings: RegenerateArgs,
        asking: ElicitArgs, seed: int, evidence: Mapping[str, Evidence], service: Asking | None,
        kept: Mapping[str, Sequence[TailoredExample]],
    ) -> None:  # fmt: skip
        self._kept = kept
        self._tasks, self._teachers, self._arms = tasks, teachers, arms
        self._settings, self._asking, self._seed = settings, asking, seed
        self._evidence, self._service = evidence, service
        self._made = {task.name: Regenerated() for task in tasks}
        self._drafts: dict[str, list[Draft]] = {}
        self._leaks: dict[str, list[Dropped]] = {}
        self._plans: dict[str, Plan] = {}
        #: By task and who wrote them.
        self._questions: dict[tuple[str, str], list[ToAnswer]] = {}
        #: By task and the part of an arm's combination that decides them: answered, then rewritten too.
        self._answered: dict[tuple[str, str], Made] = {}
        self._rewritten: dict[tuple[str, str], Made] = {}
        #: Who writes an arm's questions, by the key of its plan: `aligned`, or the first arm that has it.
        self._writers: dict[str, str] = {}
        for name, arm in arms.items():
            label = arm.questions if arm.plan == ["paper"] else name
            self._writers.setdefault(planning(arm), label)

    def take_drafts(self, task: Task, drafts: Sequence[Draft], scored: Mapping[str, float]) -> None:
        """The drafts that arms take: those with a score, which repeat none of the run's own questions.

        With them the examples of arms whose rationales are drafts.
        """
        arms, leaks = self._arms, list[Dropped]()
        if uses_drafts(arms.values()):
            drafts = [draft for draft in drafts if draft.draft_id in scored]
            if not drafts:
                taking = ", ".join(name for name, arm in arms.items() if uses_drafts([arm]))
                raise DataError(
                    f"Task {task.name}: of its arms {taking} take their questions from the drafts, and not one draft "
                    "of this task has a score. Are `pair.drafts` and `pair.scores` of other tasks?"
                )
        if drafts:
            # Those may come from another run.
            drafts, leaks = without_repeats(drafts, [task], STAGE)
            if not drafts:
                raise DataError(f"Task {task.name}: every draft repeats one of this run's own questions.")
        self._drafts[task.name], self._leaks[task.name] = list(drafts), leaks
        drafted = {one.question_id: Question(one.question_id, task.name, one.question, one.target) for one in drafts}
        first = list(drafted.values())[: self._settings.questions]
        self._questions[task.name, "drafted"] = [ToAnswer(one) for one in first]
        for arm in arms.values():
            place = task.name, answering(arm)
            if arm.rationales not in ("aligned", "unaligned") and place not in self._answered:
                self._answered[place] = drafted_examples(
                    self._drafts[task.name], scored, arm.rationales, self._settings.questions, self._seed
                )

    def plan(self) -> None:
        """Begin the plans of arms that have one of their own; whom they ask is asked now, and let go."""
        for arm in self._arms.values():
            writer = self._writer(arm)
            if arm.plan == ["paper"] or writer in self._plans:
                continue
            evidence = {task.name: self._known(task, arm) for task in self._tasks}
            self._plans[writer] = planned(
                arm, self._tasks, evidence, self._asked(arm), self._asking, self._settings.questions
            )
        self._let_go()

    def write(self, task: Task, whose: str) -> None:
        """All that one teacher is to write for a task and can by now: questions, rationales, and rewritten ones."""
        for arm in self._arms.values():
            writer = self._writer(arm)
            if arm.questions == whose and (task.name, writer) not in self._questions:
                self._write_questions(task, whose, writer)
        teacher = self._teachers.by_name(whose)
        for arm in self._arms.values():
            place = task.name, answering(arm)
            asked = self._questions.get((task.name, self._writer(arm)))
            if arm.rationales == whose and place not in self._answered and asked is not None:
                rows, lost = answered(task, teacher, asked, self._settings, self._asking, self._seed)
                self._answered[place] = rows, _told(lost, _whose_rationales(arm))
        for arm in self._arms.values():
            place = task.name, rewriting(arm)
            source = self._answered.get((task.name, answering(arm)))
            if source and rewriter(arm) == whose and arm.rewriting and place not in self._rewritten:
                self._rewritten[place] = rewritten(
                    task, teacher, source[0], arm.rewriting, self._settings, self._asking, self._seed
                )

    def _write_questions(self, task: Task, whose: str, writer: str) -> None:
        asking, made = self._asking, self._made[task.name]
        plan = self._plans.get(writer) or Plan(
            Orders(paper_orders(task, asking.seeds_per_prompt, asking.questions_per_prompt, STAGE, self._seed)),
            {task.name: self._settings.questions},
            RESIDENTS,
        )
        ways = Ways(
            STAGE, self._seed, self._settings.temperature, self._settings.max_new_tokens, asking.prefill,
            asking.max_calls,
        )  # fmt: skip
        wanted = plan.wanted[task.name]
        asked = write_questions(
            task, self._teachers.by_name(whose), plan.orders.of(task.name), plan.operators, ways, wanted
        )
        self._questions[task.name, writer] = [ToAnswer(one.as_question(), origin_of(one.order)) for one in asked.kept]
        made.questions[writer], made.wanted[writer] = len(asked.kept), wanted
        made.held[writer], made.ordered[writer] = asked.held, asked.ordered
        # Both teachers were asked by the same calls, and plans may number theirs alike.
        said = {"aligned": "", "unaligned": "unaligned teacher"}.get(writer, writer)
        made.dropped_questions[writer] = _told(asked.dropped, said)

    def finished(self) -> list[Regenerated]:
        """Select, and cut all arms to one size."""
        for model in (self._teachers.aligned, self._teachers.unaligned):
            if model is not None and any(arm.select for arm in self._arms.values()):
                model.close()
        examples: dict[str, dict[str, list[TailoredExample]]] = {}
        done: dict[tuple[str, str], Made] = {}
        for task in self._tasks:
            examples[task.name] = {}
            for name, arm in self._arms.items():
                place = task.name, arm.key
                if place not in done:
                    done[place] = self._selected(task, name, arm)
                examples[task.name][name], self._made[task.name].dropped[name] = list(done[place][0]), [*done[place][1]]
        self._let_go()
        dealt = {tuple(sorted(plan.wanted.items())) for plan in self._plans.values()}
        as_asked = {tuple(sorted((task.name, self._settings.questions) for task in self._tasks))}
        cut = (
            {task: cut_to_equal_size(of_task) for task, of_task in examples.items()}
            if dealt <= as_asked
            else cut_in_all(examples)
        )
        for task in self._tasks:
            made, (kept, surplus) = self._made[task.name], cut[task.name]
            made.examples = kept
            for name, arm in self._arms.items():
                leaks = self._leaks[task.name] if arm.questions == "drafted" else []
                made.dropped[name] += surplus[name] + leaks
        return [self._made[task.name] for task in self._tasks]

    def _selected(self, task: Task, name: str, arm: ArmArgs) -> Made:
        rows, lost = self._answered[task.name, answering(arm)]
        if arm.rewriting:
            more, more_lost = self._rewritten[task.name, rewriting(arm)]
            rows, lost = [*rows, *more], [*lost, *more_lost]
        if not arm.select:
            return rows, lost
        evidence = self._known(task, arm)
        there = {other: self._answered[task.name, answering(one)][0] for other, one in self._arms.items()}
        kept, dropped = selected(arm, task, rows, replace(evidence, examples=there), self._asked(arm))
        if not kept:
            reasons = ", ".join(sorted({row.reason for row in dropped}))
            raise StageError(
                f"Task {task.name}: the selectors of the arm {name} leave none of its {len(rows)} examples "
                f"({reasons}), and all arms have as many as the smallest."
            )
        return kept, [*lost, *dropped]

    def _known(self, task: Task, arm: ArmArgs) -> Evidence:
        kept = [row for row in self._kept.get(arm.name, ()) if row.task == task.name]
        return replace(self._evidence.get(task.name, Evidence()), kept=kept)

    def _writer(self, arm: ArmArgs) -> str:
        return "drafted" if arm.questions == "drafted" else self._writers[planning(arm)]

    def _asked(self, arm: ArmArgs) -> Asking:
        if self._service is None:
            raise StageError(f"The arm {arm.name} needs models to be asked for its strategies, and there are none.")
        return self._service

    def _let_go(self) -> None:
        """Students have been asked by now, if at all; a teacher is next, or nobody."""
        for model in self._service.students if self._service else ():
            if isinstance(model, Model):
                model.close()


def planning(arm: ArmArgs) -> str:
    """Arms with the same of these share their questions."""
    own = [] if arm.plan == ["paper"] else arm.plan_identity
    return f"{arm.questions} {own}"


def answering(arm: ArmArgs) -> str:
    """And with the same of these what was answered."""
    return f"{planning(arm)} {arm.rationales}"


def rewriting(arm: ArmArgs) -> str:
    """And what was rewritten."""
    return f"{answering(arm)} {[one.identity for one in arm.rewriting]}"


def _whose_rationales(arm: ArmArgs) -> str:
    if arm.rationales == "aligned":
        return ""
    return "unaligned teacher" if arm.questions == "unaligned" else "unaligned teacher's rationale"


def _told(dropped: Sequence[Dropped], whose: str) -> list[Dropped]:
    return [replace(row, id=f"{whose}, {row.id}") for row in dropped] if whose else list(dropped)
