"""Who answers the validation questions: the rows of the IRT matrix (paper, section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.preference_set import RespondentArgs, equal_respondents
from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import ConfigError


@dataclass(frozen=True)
class Respondent:
    """One model, asked in one way; it answers once for each number of examples."""

    #: In `responses.jsonl` and `irt.json`; no two have the same.
    name: str
    settings: RespondentArgs
    #: The student whose precision, attention and trust in remote code it is loaded with.
    like: StudentArgs


def respondents(args: ArteArgs) -> list[Respondent]:
    """As configured, loaded like the first student; or every student as it is, at 0 to 3 shots, unless drafts respond.

    Students that answer alike, such as two fine-tunings of one checkpoint, are one respondent. Raises `ConfigError`
    where two of those configured are.
    """
    if configured := args.preference_set.respondents:
        if equal := equal_respondents(configured):
            raise ConfigError(f"`preference_set.respondents`: {equal}.")
        return [
            Respondent(name, one, args.students[0]) for name, one in zip(_names(configured), configured, strict=True)
        ]
    if args.preference_set.pilot_drafts:
        return []
    apart: dict[str, StudentArgs] = {}
    for student in args.students:
        apart.setdefault(repr(student.model_dump(exclude={"name", "weight", "sft"})), student)
    students = list(apart.values())
    shared = RespondentArgs.model_fields.keys() & StudentArgs.model_fields.keys()
    several = {one.base_model for one in students if sum(one.base_model == each.base_model for each in students) > 1}
    return [
        Respondent(
            f"{student.base_model} ({student.name})" if student.base_model in several else student.base_model,
            RespondentArgs.model_validate(student.model_dump(include=set(shared))),
            student,
        )
        for student in students
    ]


def _names(configured: Sequence[RespondentArgs]) -> list[str]:
    """The model's name and, where that is not enough, what tells it from the others of that name."""
    names = []
    for one in configured:
        same = [each for each in configured if each.base_model == one.base_model]
        ways: dict[str, list[Any]] = {}
        for each in same:
            for key, value in each.model_dump(exclude={"base_model", "shots"}).items():
                ways.setdefault(key, []).append(value)
        apart = [f"{getattr(one, key)}" for key, values in ways.items() if any(value != values[0] for value in values)]
        names.append(f"{one.base_model} ({', '.join(apart)})" if apart else one.base_model)
    return names
