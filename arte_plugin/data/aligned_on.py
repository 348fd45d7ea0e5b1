"""Test questions that a teacher from elsewhere (`from_run`, `pair.drafts`) was aligned on: that run's own questions.

Its seed questions stand in the prompts of its pairs, and its preference questions decided which draft was chosen. With
the same tasks and the same seed they are never this run's test questions; with another seed most likely some are.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from arte_plugin import ranks
from arte_plugin.data.same_question import comparable
from arte_plugin.data.sources import short
from arte_plugin.data.tasks import Task
from arte_plugin.errors import DataError
from arte_plugin.language.question_tags import parse_questions
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Draft, Dropped, PreferenceQuestion, iter_rows
from arte_plugin.stages import STAGES

LOG = logging.getLogger(LOGGER)

#: What `rounds` calls the folder of a later round.
_ROUND = re.compile(r"round-([2-9]|1\d|20)")


def without_what_was_aligned_on(
    tasks: Sequence[Task], drafts: Path, name: str, overlap: Literal["stop", "drop"]
) -> list[Task]:
    """The tasks without the test questions that are seed or preference questions of the run that `drafts` come from.

    `name` is what that run is called in messages. Raises `DataError` where there is such a question and `overlap` is
    `stop`, or where no test question is left.
    """
    seen = dict(_questions(drafts, name))
    kept: list[Task] = []
    for task in tasks:
        matches = [(q, seen[form]) for q in task.test if (form := comparable(q.question)) in seen]
        if matches and overlap == "stop":
            question, what = matches[0]
            raise DataError(
                f"Task {task.name}: {len(matches)} of its {len(task.test)} test questions are questions that the "
                f"teacher of {name} was aligned on, so results would mean nothing. A {what} of that run is "
                f"{short(question.question)!r}. Take that run's tasks and `arte.seed` as they were, give "
                "`test_questions` a source of their own, or leave such questions out of the test by "
                "`arte.overlap: drop`."
            )
        out = {question.question_id for question, _ in matches}
        test = [question for question in task.test if question.question_id not in out]
        if not test:
            raise DataError(f"Task {task.name}: the teacher of {name} was aligned on every one of its test questions.")
        kept.append(replace(task, test=test, aligned_on=len(matches)))
    return kept


def without_repeats(drafts: Sequence[Draft], tasks: Sequence[Task], stage: str) -> tuple[list[Draft], list[Dropped]]:
    """Another run's drafts without those whose question is one of this run's; that run compared its own only."""
    taken = {form: split for task in tasks for form, split in task.taken().items()}
    kept = [draft for draft in drafts if comparable(draft.question) not in taken]
    repeats = {draft.question_id: draft for draft in drafts if comparable(draft.question) in taken}
    return kept, [
        Dropped(stage, f"repeats_{taken[comparable(draft.question)]}", draft.task, name, draft.question)
        for name, draft in repeats.items()
    ]


def preference_set_of(drafts: Path) -> Path | None:
    """The preference set of the run that `drafts` come from: in its run folder, or published beside them."""
    places = (drafts.parent.parent / STAGES["preference-set"], drafts.parent)
    return next((file for at in places if (file := at / "preference_set.jsonl").is_file()), None)


def _questions(drafts: Path, name: str) -> Iterator[tuple[str, str]]:
    """That run's questions as far as its files are there, comparable, and what they were."""
    yield from _questions_of_earlier_rounds(drafts, name)
    yield from _questions_of_run(drafts, name)


def _questions_of_run(drafts: Path, name: str) -> Iterator[tuple[str, str]]:
    """Of one run, or of one round."""
    preference_set = preference_set_of(drafts)
    unknown = [what for what, there in (("seed", drafts.is_file()), ("preference", preference_set)) if not there]
    if unknown and ranks.is_first():
        LOG.warning(
            "%s has no file with its %s questions: whether test questions are among them could not be checked",
            name, " and ".join(unknown),
        )  # fmt: skip
    if drafts.is_file():
        prompts = {draft.question_prompt for draft in iter_rows(drafts, Draft)}
        for prompt in prompts:
            for shown in parse_questions(prompt)[0]:
                yield comparable(shown.question), "seed question"
    if preference_set:
        for question in iter_rows(preference_set, PreferenceQuestion):
            yield comparable(question.question), "preference question"


def _questions_of_earlier_rounds(drafts: Path, name: str) -> Iterator[tuple[str, str]]:
    """Of a later round (`OUT/round-3`), whose teacher went through those before: OUT's own, and OUT/round-2's."""
    arte, stage = drafts.absolute().parent.parent, drafts.parent.name
    later = _ROUND.fullmatch(arte.parent.name)
    if later is None:
        return
    first = arte.parent.parent
    for number in range(1, int(later[1])):
        folder = first if number == 1 else first / f"round-{number}"
        yield from _questions_of_run(folder / arte.name / stage / drafts.name, f"round {number} of {name}")
