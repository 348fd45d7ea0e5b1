"""What every block of the `arte:` configuration has in common."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A block in which a key that does not exist is an error, never ignored."""

    model_config = ConfigDict(extra="forbid")

    def decisive(self, *leave_out: str) -> dict[str, Any]:
        """What of this block a stage's rows depend on.

        Keys that came with a later version stand there only where they are set otherwise than by default: a run that
        was made without them stays done.
        """
        values = self.model_dump(exclude=set(leave_out))
        later = {key for key in _LATER & values.keys() if values[key] == type(self).model_fields[key].default}
        return {key: value for key, value in values.items() if key not in later}


_LATER = frozenset(
    {"keep", "samples", "sample_temperature", "equal_answers", "min_probability", "pilot_drafts", "pairing", "repeat"}
)

_T = TypeVar("_T")


def each_once(entries: list[_T]) -> list[_T]:
    """The entries as they are. Raises `ValueError` where one stands there twice."""
    for entry in entries:
        if entries.count(entry) > 1:
            raise ValueError(f"{entry} stands there twice")
    return entries
