"""Stage 6, regeneration: the aligned teacher writes questions and one rationale each (section 3.4, appendix F).

Other arms (`arms.py`) share what is written for ARTE's own data set, and ask for no more than they need. For the arm
`unaligned` the teacher as it was is asked the very same: prompts, seeds, sizes.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from arte_plugin.config.arms import Arm
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.data.aligned_on import without_repeats
from arte_plugin.data.tasks import Task
from arte_plugin.errors import DataError, TeacherError
from arte_plugin.models.model import Model
from arte_plugin.operators.solve import solve_orders
from arte_plugin.planners.paper import paper_orders
from arte_plugin.rows import Draft, Dropped, Order, Question, TailoredExample
from arte_plugin.stages.agreement import majority, reason_to_drop
from arte_plugin.stages.arms import ARMS, Source, cut_to_equal_size, drafted_examples, uses_drafts
from arte_plugin.stages.new_questions import write_questions
from arte_plugin.stages.orders import RESIDENTS, Ways
from arte_plugin.stages.rationales import write_rationales

STAGE = "regenerate"


@dataclass(frozen=True)
class Teachers:
    """Who is asked: the aligned teacher and, for an arm that needs it, the teacher as it was."""

    aligned: Model
    unaligned: Model | None = None


@dataclass(frozen=True)
class Regenerated:
    """What stage 6 made for one task."""

    #: New questions by the teacher that wrote them, before they were answered, and what was dropped of them.
    questions: dict[str, int]
    dropped_questions: dict[str, list[Dropped]]
    examples: dict[Arm, list[TailoredExample]]
    dropped: dict[Arm, list[Dropped]]
    #: How many questions each reply of a teacher held.
    held: dict[str, list[int]]


def regenerate(
    tasks: Sequence[Task],
    teachers: Teachers,
    arms: Sequence[Arm],
    drafts: Sequence[Draft],
    scored: Mapping[str, float],
    settings: RegenerateArgs,
    asking: ElicitArgs,
    seed: int,
) -> list[Regenerated]:
    """The examples of each arm, task by task; `asking` says how questions are asked for, as in stage 1.

    `scored` is s_r by draft id, empty where no arm uses drafts. The aligned teacher is let go before the one that is
    not is loaded. Raises `TeacherError` when a teacher writes nothing usable, `DataError` when an arm needs drafts of a
    task and there are none with a score.
    """
    begun = [
        _regenerate(
            task, teachers, arms, [draft for draft in drafts if draft.task == task.name], scored, settings, asking, seed
        )
        for task in tasks
    ]
    for one in begun:
        next(one)
    if teachers.unaligned is not None:
        teachers.aligned.close()
    return [_finished(one) for one in begun]


def _finished(work: Generator[None, None, Regenerated]) -> Regenerated:
    try:
        next(work)
    except StopIteration as end:
        return end.value
    raise AssertionError("it pauses once")


def _regenerate(
    task: Task,
    teachers: Teachers,
    arms: Sequence[Arm],
    drafts: Sequence[Draft],
    scored: Mapping[str, float],
    settings: RegenerateArgs,
    asking: ElicitArgs,
    seed: int,
) -> Generator[None, None, Regenerated]:
    """One task. It pauses where the aligned teacher has written all that it is to write."""
    if uses_drafts(arms):
        drafts = [draft for draft in drafts if draft.draft_id in scored]
        if not drafts:
            raise DataError(
                f"Task {task.name}: of its arms {', '.join(arm for arm in arms if uses_drafts([arm]))} take their "
                "questions from the drafts, and not one draft of this task has a score. Are `pair.drafts` and "
                "`pair.scores` of other tasks?"
            )
    leaks: list[Dropped] = []
    if drafts:
        # Those may come from another run.
        drafts, leaks = without_repeats(drafts, [task], STAGE)
        if not drafts:
            raise DataError(f"Task {task.name}: every draft repeats one of this run's own questions.")
    asked: dict[str, list[Question]] = {}
    dropped_questions: dict[str, list[Dropped]] = {}
    held: dict[str, list[int]] = {}

    def new_questions(whose: str, teacher: Model) -> tuple[list[Question], list[Dropped]]:
        orders = paper_orders(task, asking.seeds_per_prompt, asking.questions_per_prompt, STAGE, seed)
        ways = Ways(STAGE, seed, settings.temperature, settings.max_new_tokens, asking.prefill, asking.max_calls)
        asked = write_questions(task, teacher, orders, RESIDENTS, ways, settings.questions)
        held[whose] = asked.held
        return [one.as_question() for one in asked.kept], asked.dropped

    if any(ARMS[arm].questions == "aligned" for arm in arms):
        asked["aligned"], dropped_questions["aligned"] = new_questions("aligned", teachers.aligned)
    drafted = {one.question_id: Question(one.question_id, task.name, one.question, one.target) for one in drafts}
    asked["drafted"] = list(drafted.values())[: settings.questions]

    made: dict[Source, tuple[list[TailoredExample], list[Dropped]]] = {}
    sources = list(dict.fromkeys(ARMS[arm] for arm in arms))
    for source in sources:
        if source.rationales == "aligned":
            made[source] = _answered(task, teachers.aligned, asked[source.questions], settings, asking, seed)
    yield
    if any(ARMS[arm].questions == "unaligned" for arm in arms) and teachers.unaligned is not None:
        asked["unaligned"], lost = new_questions("unaligned", teachers.unaligned)
        # Both teachers were asked by the same calls.
        dropped_questions["unaligned"] = [replace(row, id=f"unaligned teacher, {row.id}") for row in lost]
    for source in sources:
        if source.rationales == "unaligned" and teachers.unaligned is not None:
            whose = "unaligned teacher" if source.questions == "unaligned" else "unaligned teacher's rationale"
            rows, lost = _answered(task, teachers.unaligned, asked[source.questions], settings, asking, seed)
            made[source] = rows, [replace(row, id=f"{whose}, {row.id}") for row in lost]
        elif source not in made:
            made[source] = drafted_examples(drafts, scored, source.rationales, settings.questions, seed)
    examples, surplus = cut_to_equal_size({arm: made[ARMS[arm]][0] for arm in arms})
    dropped = {
        arm: made[ARMS[arm]][1] + surplus[arm] + (leaks if ARMS[arm].questions == "drafted" else []) for arm in arms
    }
    written = {teacher: len(asked[teacher]) for teacher in dropped_questions}
    return Regenerated(written, dropped_questions, examples, dropped, held)


def _answered(
    task: Task,
    teacher: Model,
    questions: Sequence[Question],
    settings: RegenerateArgs,
    asking: ElicitArgs,
    seed: int,
) -> tuple[list[TailoredExample], list[Dropped]]:
    """Greedy rationales under the plain prompt."""
    orders = solve_orders(questions)
    ways = Ways(STAGE, seed, 0.0, settings.max_new_tokens, asking.prefill)
    written, dropped = write_rationales(task, teacher, orders, RESIDENTS, ways)
    voted = _voted(task, teacher, orders, settings, ways) if settings.keep == "majority" else {}
    examples: list[TailoredExample] = []
    for one, order, rationale in zip(questions, orders, written, strict=True):
        if rationale is None:
            continue
        text, answer = rationale
        reason = reason_to_drop(settings.keep, answer, one.target, voted.get(one.question_id), task.args.answer)
        if reason:
            dropped.append(Dropped(STAGE, reason, task.name, one.question_id, text))
        else:
            prompt = RESIDENTS["solve"].prompt(task.args, order)
            examples.append(TailoredExample(task.name, one.question, one.target, text, answer, prompt))
    if not examples:
        raise TeacherError(
            f"Task {task.name}: `regenerate.keep: {settings.keep}` keeps none of the {len(dropped)} rationales of the "
            f"teacher {teacher.name}. A larger teacher may agree with itself; `regenerate.keep: all` keeps all."
        )
    return examples, dropped


def _voted(task: Task, teacher: Model, orders: Sequence[Order], settings: RegenerateArgs, ways: Ways) -> dict[str, str]:
    """The majority's answer to each order that has one, by its id, among `settings.samples` sampled ones."""
    ids = [one.order_id for one in orders]
    sampled = [replace(one, order_id=f"{one.order_id}/sample-{i}") for one in orders for i in range(settings.samples)]
    ways = replace(ways, temperature=settings.sample_temperature)
    written, _ = write_rationales(task, teacher, sampled, RESIDENTS, ways)
    given: dict[str, list[str]] = {name: [] for name in ids}
    for one, rationale in zip(sampled, written, strict=True):
        if rationale is not None:
            given[one.order_id.rpartition("/")[0]].append(rationale[1])
    found = {name: majority(all_of_it, task.args.answer) for name, all_of_it in given.items()}
    return {name: answer for name, answer in found.items() if answer is not None}
