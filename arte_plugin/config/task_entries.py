"""The entries of `arte.tasks`: a task in full, or a preset that stands for one or for a family of them."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import InitErrorDetails

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data import presets


def _presets_become_tasks(entries: Any, validate: ValidatorFunctionWrapHandler) -> list[TaskArgs]:
    if not isinstance(entries, list):
        return validate(entries)
    tasks: list[Any] = []
    places: list[int] = []
    errors: list[InitErrorDetails] = []
    for place, entry in enumerate(entries):
        try:
            made = presets.expand(entry) if _names_preset(entry) else [entry]
        except ValueError as error:
            errors.append(
                InitErrorDetails(type="value_error", loc=(place, "preset"), input=entry, ctx={"error": error})
            )
            continue
        tasks += made
        places += [place] * len(made)
    try:
        checked = validate(tasks) if tasks or not errors else []
    except ValidationError as error:
        errors += _moved(error, places)
    if errors:
        raise ValidationError.from_exception_data("tasks", errors)
    return checked


def _names_preset(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("preset") is not None


def _moved(error: ValidationError, places: Sequence[int]) -> list[InitErrorDetails]:
    """The same problems, each at the entry of the YAML that its task comes from: a family is one entry, many tasks."""
    return [
        InitErrorDetails(
            type=detail["type"],
            loc=tuple(places[int(part)] if i == 0 else part for i, part in enumerate(detail["loc"])),
            input=detail["input"],
            ctx=detail.get("ctx", {}),
        )
        for detail in error.errors()
    ]


Tasks = Annotated[list[TaskArgs], Field(min_length=1), WrapValidator(_presets_become_tasks)]
