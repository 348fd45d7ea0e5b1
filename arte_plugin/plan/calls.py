"""Calls and tokens of a run, from its settings: who is asked what, how often, with how long prompts and replies."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from arte_plugin.config.align import CHECK_QUESTIONS, TRAINED, VALIDATION
from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.student_replies import ANSWER_TOKENS
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.run.trainings import trainings
from arte_plugin.stages.arms import ARMS

#: Tokens of a page; half of one is lost, in the mean, at the end of what is shared.
PAGE = 16

#: Tokens of an answer between its tags.
BARE = 8

#: Of a student's replies, how many are assumed to be asked for their answer (`probe.ask_again`).
UNREADABLE = 0.2


def question_calls(questions: float, per_call: int) -> int:
    """Calls of the first wave, which asks for a quarter more than is wanted."""
    return math.ceil(1.25 * math.ceil(questions) / per_call)


def works(args: ArteArgs, tasks: Sequence[Sizes], *, own_drafts: bool = True) -> list[Work]:
    """Every kind of call of one round that there is, in the order of the stages, summed over `tasks`."""
    drafting = own_drafts and not args.pair.drafts
    makers: list[Callable[[ArteArgs, Sizes], Iterable[Work]]] = [
        *([_elicit] if drafting else []), _worked, *([_respond, _probe] if drafting else []), _align_check, _regenerate,
        _evaluate,
    ]  # fmt: skip
    return [
        total
        for maker in makers
        for total in _summed([work for task in tasks for one in maker(args, task) for work in _and_again(args, one)])
        if total.calls
    ]


def _and_again(args: ArteArgs, work: Work) -> Iterable[Work]:
    """The calls, and those for the answers behind a student's replies without one: prompt and reply are read again."""
    yield work
    if not args.probe.ask_again or work.who != "student" or not work.new:
        return
    calls = UNREADABLE * work.calls
    yield Work(
        work.stage, f"{work.what}, asked again", "student", calls, UNREADABLE * (work.asked + work.new) + calls * BARE,
        UNREADABLE * (work.computed + work.new) + calls * BARE, calls * BARE, work.calls * ANSWER_TOKENS,
    )  # fmt: skip


def _summed(parts: Iterable[Work]) -> list[Work]:
    totals: dict[str, Work] = {}
    for part in parts:
        if known := totals.get(part.what):
            part = replace(
                part,
                calls=part.calls + known.calls,
                asked=part.asked + known.asked,
                computed=part.computed + known.computed,
                new=part.new + known.new,
                most=part.most + known.most,
            )
        totals[part.what] = part
    return list(totals.values())


def _plain(stage: str, what: str, who: str, calls: float, prompt: float, new: float, most: float) -> Work:
    return Work(stage, what, who, calls, calls * prompt, calls * prompt, calls * new, calls * most)


def _elicit(args: ArteArgs, task: Sizes) -> Iterable[Work]:
    of, longest = task.teacher, args.elicit.max_new_tokens
    yield _questions("elicit", "draft questions", args, task, task.questions, longest)
    technique = of.chat + of.technique + of.question
    yield _plain("elicit", "rationales", "teacher", task.drafts, technique, of.rationale, longest)


def _worked(args: ArteArgs, task: Sizes) -> Iterable[Work]:
    if args.elicit.worked_examples:
        of = task.teacher
        solve = of.chat + of.before + of.frame + of.question
        longest = args.elicit.max_new_tokens
        # Later rounds take those of the first, and all of this is counted once a round.
        calls = task.seeds / args.rounds
        yield _plain("elicit", "worked examples", "teacher", calls, solve, of.rationale, longest)


def _questions(stage: str, what: str, args: ArteArgs, task: Sizes, wanted: float, longest: int) -> Work:
    of, per_call = task.teacher, args.elicit.questions_per_prompt
    new = min(per_call * of.written_question, longest)
    return _plain(stage, what, "teacher", question_calls(wanted, per_call), of.chat + of.question_prompt, new, longest)


def _respond(args: ArteArgs, task: Sizes) -> Iterable[Work]:
    of, longest = task.student, args.probe.max_new_tokens
    own = of.question + of.frame + of.chat_behind
    for shots in task.shots if args.preference_set.method == "irt" else ():
        shared = of.chat_before + of.before + shots * of.shot
        calls = task.validation
        yield Work(
            "preference-set", "respondents", "student", calls, calls * (shared + own),
            shared + calls * (own + PAGE / 2), calls * of.reply, calls * longest,
        )  # fmt: skip


def _probe(args: ArteArgs, task: Sizes) -> Iterable[Work]:
    students, settings = len(args.students), args.probe
    probes = task.drafts * task.size
    if settings.score == "answers" and settings.budget == "racing":
        race = settings.racing
        # All drafts have their first questions, then goes on what is left of the share.
        first = task.drafts * min(race.first, task.size)
        probes = min(probes, max(first, max(int(race.share * probes), 1)))
    piloted = _piloted(args, task)
    yield _of_drafts("pilot", args, task, piloted * students, piloted * students * task.validation)
    # What the pilot has asked is not asked again.
    known = piloted * task.size if settings.score == "answers" and settings.budget == "full" else 0
    yield _of_drafts("probes", args, task, (task.drafts - piloted) * students, (probes - known) * students)
    checked = min(args.preference_set.consistency_questions, task.questions) * task.techniques * students
    # Racing has left some of the set's own probes out; those are made for the check.
    missing = task.size * (1 - probes / max(1, task.drafts * task.size))
    yield _of_drafts("consistency", args, task, checked, round(checked * (task.validation - task.size + missing)))


def _piloted(args: ArteArgs, task: Sizes) -> int:
    settings = args.preference_set
    return min(settings.pilot_drafts, task.drafts) if settings.method == "irt" else 0


def _of_drafts(what: str, args: ArteArgs, task: Sizes, drafts: int, probes: int) -> Work:
    """Probes whose shared part is computed once for each draft."""
    of = task.student
    weighed = args.probe.score != "answers" and what != "pilot"
    rationale = BARE if args.probe.score == "likelihood_without_rationale" else of.rationale
    shared = of.chat_before + of.before + of.question + of.frame + rationale
    own = of.question + of.frame + of.chat_behind
    new, longest = (0.0, 0) if weighed else (of.reply, args.probe.max_new_tokens)
    stage = "preference-set" if what == "pilot" else "probe"
    return Work(
        stage, what, "student", probes, probes * (shared + own), drafts * shared + probes * (own + PAGE / 2),
        probes * new, probes * longest,
    )  # fmt: skip


def _align_check(args: ArteArgs, task: Sizes) -> Iterable[Work]:
    if not args.align.check or args.from_run:
        return
    of, settings, longest = task.teacher, args.align, args.regenerate.max_new_tokens
    asked = settings.check_questions or min(CHECK_QUESTIONS, task.questions)
    # By the teacher as it was and by the aligned one.
    yield _questions("align-check", "check: question replies", args, task, asked, longest).times(2)
    solve = of.chat + of.before + of.frame + of.question
    yield _plain("align-check", "check: rationales", "teacher", 2 * asked, solve, of.rationale, longest)
    if not getattr(args.engine, "teacher", None):
        pairs = args.pair.question_pairs + min(args.pair.rationale_pairs, task.questions)
        held_out = int(settings.held_out * pairs)
        weighed = 2 * 2 * (held_out + min(TRAINED, pairs - held_out))
        yield _plain("align-check", "check: pairs", "teacher", weighed, solve + of.rationale, 0.0, 0)
    # A published run's preference set is not known here.
    outside = task.validation - (0 if args.pair.drafts else task.size)
    shown = 2 * asked * len(args.students)
    yield replace(
        _of_drafts("check: probes", args, task, shown, shown * min(VALIDATION, outside or task.held_out)),
        stage="align-check",
    )


def _regenerate(args: ArteArgs, task: Sizes) -> Iterable[Work]:
    of, longest = task.teacher, args.regenerate.max_new_tokens
    for teacher in ("aligned", "unaligned"):
        if any(ARMS[arm].questions == teacher for arm in args.arms):
            yield _questions("regenerate", "tailored questions", args, task, task.examples, longest)
    solve = of.chat + of.before + of.frame + of.question
    for source in dict.fromkeys(ARMS[arm] for arm in args.arms):
        if source.rationales in ("aligned", "unaligned"):
            wanted = min(task.examples, task.questions) if source.questions == "drafted" else task.examples
            yield _plain("regenerate", "tailored rationales", "teacher", wanted, solve, of.rationale, longest)
            if args.regenerate.keep == "majority":
                votes = wanted * args.regenerate.samples
                yield _plain("regenerate", "rationales that vote", "teacher", votes, solve, of.rationale, longest)


def _evaluate(args: ArteArgs, task: Sizes) -> Iterable[Work]:
    of, longest = task.student, args.evaluate.max_new_tokens
    test = min(task.test, args.evaluate.limit or task.test)
    # Arms with the same rows have one student.
    trained = {(one.student.name, ARMS[one.arm], one.seed) for one in trainings(args)}
    compared = {one for one in trained if one[1] == ARMS["arte"]}
    for shots in args.evaluate.shots:
        prompt = of.chat + of.before + shots * of.shot + of.question + of.frame
        calls = test * (len(args.students) + len(trained)) + task.held_out * (len(args.students) + len(compared))
        yield _plain("evaluate", "evaluation", "student", calls, prompt, of.reply, longest)
