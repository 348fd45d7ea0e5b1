"""From the `arte:` block to sizes of each task: what its sources hold, and how long its texts are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arte_plugin.config.arms import uses_drafts
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.config.tasks import QuestionsArgs, TaskArgs
from arte_plugin.config.teacher import TeacherArgs
from arte_plugin.data.local_files import is_local
from arte_plugin.data.tasks import Task, load_task
from arte_plugin.errors import ConfigError
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.prompt_style import found_style
from arte_plugin.plan.lengths import ASSUMED, Lengths, measured, within
from arte_plugin.plan.totals import works
from arte_plugin.plan.work import Sizes
from arte_plugin.stages import STAGES
from arte_plugin.stages.respondents import respondents

#: Where a source is not at hand: validation questions, and test questions left of Big-Bench-Hard's 250.
VALIDATION, TEST, SEEDS = 100, 140, 10


@dataclass(frozen=True)
class Measured:
    """Sizes of all tasks, and of how many of them the texts, and whose tokens, were at hand."""

    tasks: list[Sizes]
    read: int
    #: Models whose tokenizers were not to be had, of so many.
    without_tokenizer: list[str]
    models: int


def sizes_of(args: ArteArgs, teacher: str) -> Measured:
    """Raises `ConfigError` and `DataError` as reading the tasks does, for sources in local files."""
    student = args.students[0]
    found = {
        teacher: _renderer(teacher, args.teacher),
        student.base_model: _renderer(student.base_model, student),
    }
    held_out = args.held_out if args.rounds > 1 else 0.0
    tasks, read = [], 0
    for task in args.tasks:
        loaded = load_task(task, args.seed, held_out) if _at_hand(task) else None
        read += loaded is not None
        tasks.append(_sizes(args, task, loaded, held_out, lambda name: found[name], teacher, student.base_model))
    return Measured(tasks, read, [name for name, renderer in found.items() if renderer is None], len(found))


def calls_of(args: ArteArgs, cfg: Mapping[str, Any], tasks: Sequence[Task] | None = None) -> dict[str, int]:
    """How often `teacher` and `student` are asked in a round of the loop, without the evaluation.

    `tasks` are the tasks of `args`, if they are loaded; without, those in local files are. Raises `ConfigError` and
    `DataError` as reading them does.
    """
    held_out = args.held_out if args.rounds > 1 else 0.0
    by_name = {task.name: task for task in tasks or ()}
    sizes = [
        _sizes(
            args, one,
            by_name.get(one.name) or (load_task(one, args.seed, held_out) if _at_hand(one) else None),
            held_out, lambda name: None, "", "",
        )
        for one in args.tasks
    ]  # fmt: skip
    asked = works(args, sizes, own_drafts=makes_drafts(args, cfg))
    return {
        who: round(sum(one.calls for one in asked if one.who == who and one.stage != "evaluate"))
        for who in ("teacher", "student")
    }


def _sizes(
    args: ArteArgs, task: TaskArgs, loaded: Task | None, held_out: float,
    renderer: Callable[[str], Renderer | None], teacher: str, student: str,
) -> Sizes:  # fmt: skip
    def lengths(name: str) -> Lengths:
        known = renderer(name)
        if loaded is None or known is None:
            return ASSUMED
        return measured(task, loaded, known, args.elicit.seeds_per_prompt, args.elicit.questions_per_prompt)

    if loaded is not None:
        validation, test, apart = len(loaded.validation), len(loaded.test), len(loaded.held_out)
    else:
        wanted = task.validation_questions if isinstance(task.validation_questions, int) else VALIDATION
        apart = round(wanted * held_out)
        validation = wanted - apart
        test = task.test_questions if isinstance(task.test_questions, int) else TEST
    seeds = task.seed_questions if isinstance(task.seed_questions, int) else SEEDS
    seed_questions = seeds
    if loaded is not None:
        seeds, seed_questions = sum(not one.rationale for one in loaded.seeds), len(loaded.seeds)
    of_student = within(lengths(student), args.elicit.max_new_tokens, args.probe.max_new_tokens)
    if args.elicit.worked_examples:
        worked = of_student.question + of_student.frame + of_student.rationale
        of_student = replace(of_student, shot=max(of_student.shot, worked))
    settings = args.preference_set
    shots = [n for one in respondents(args) for n in one.settings.shots]
    return Sizes(
        questions=args.elicit.questions,
        techniques=len(task.techniques),
        validation=validation,
        size=validation if settings.method == "all" else min(settings.size, validation),
        shots=shots,
        examples=args.regenerate.questions,
        teacher=within(lengths(teacher), args.elicit.max_new_tokens, args.probe.max_new_tokens),
        student=of_student,
        test=test,
        held_out=apart,
        seeds=seeds,
        seed_questions=seed_questions,
    )


def _at_hand(task: TaskArgs) -> bool:
    sources = (task.questions, task.seed_questions, task.validation_questions, task.test_questions)
    return all(is_local(one.path) for one in sources if isinstance(one, QuestionsArgs))


def _renderer(name: str, settings: TeacherArgs | StudentArgs) -> Renderer | None:
    """The model's tokenizer, if it lies here or in the Hub's cache."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, local_files_only=True, trust_remote_code=False, revision=getattr(settings, "revision", None) or "main"
        )
        return Renderer(tokenizer, found_style(tokenizer, name, settings)[0], settings.chat_template_kwargs)
    except (OSError, ValueError, KeyError, ImportError, ConfigError):
        return None


def makes_drafts(args: ArteArgs, cfg: Mapping[str, Any]) -> bool:
    """Whether stages 1 to 3 are run: not on published drafts, nor for `from_run` but for arms that need its drafts."""
    if args.pair.drafts:
        return False
    if args.from_run is None:
        return True
    there = Path(args.from_run).expanduser() / "arte" / STAGES["elicit"] / "drafts.jsonl"
    return uses_drafts(args.combinations.values()) and not there.is_file()
