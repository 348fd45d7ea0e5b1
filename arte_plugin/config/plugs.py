"""Strategies as the YAML names them: `ifd`, `{ifd: {weight: 0.5}}`, or a user's own by its import path."""

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from arte_plugin.config.block import Block
from arte_plugin.diagnostics import DIAGNOSTICS
from arte_plugin.operators import OPERATORS
from arte_plugin.pairings import PAIRINGS
from arte_plugin.planners import PLANNERS
from arte_plugin.plugs import Diagnostic, Operator, Pairing, Planner, Plug, Selector, Signal
from arte_plugin.selectors import SELECTORS
from arte_plugin.signals import SIGNALS

#: The plug points: the strategies of each by name, and what a class must have to be one.
POINTS: Mapping[str, tuple[Mapping[str, type[Plug]], type]] = {
    "signals": (SIGNALS, Signal),
    "pairings": (PAIRINGS, Pairing),
    "planners": (PLANNERS, Planner),
    "operators": (OPERATORS, Operator),
    "selectors": (SELECTORS, Selector),
    "diagnostics": (DIAGNOSTICS, Diagnostic),
}


@dataclass(frozen=True)
class Chosen:
    """A strategy that the YAML names, with its settings read."""

    point: str
    name: str
    kind: type[Plug]
    settings: Any

    def made(self) -> Any:
        """An instance, of its settings."""
        return self.kind(self.settings)

    @property
    def identity(self) -> dict[str, Any]:
        """What of it a stage's rows depend on."""
        return {"name": self.name, "version": self.kind.version, "settings": self.settings.model_dump()}


def chosen(point: str, entry: Any) -> Chosen:
    """The strategy of a plug point that an entry of the YAML names.

    Raises `ValueError`, for the config's own error, where there is none of that name, where a user's own can't be
    imported or isn't one, and where its settings are wrong.
    """
    name, given = _split(point, entry)
    known, protocol = POINTS[point]
    kind = _imported(point, name, protocol) if ":" in name else known.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise ValueError(
            f"there is no {_one(point)} `{name}`: {hint}known are {', '.join(sorted(known))}; one of your own is named "
            "by its import path, `my_package.my_module:Class`"
        )
    try:
        return Chosen(point, name, kind, kind.Settings.model_validate(given))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"`{name}{'.' + place if place else ''}`: {_said(first, kind.Settings)}") from None


def chosen_all(point: str, entries: Sequence[Any]) -> list[Chosen]:
    """`chosen` of each entry. Raises `ValueError` also where one stands there twice."""
    found = [chosen(point, entry) for entry in entries]
    for place, one in enumerate(found):
        if one in found[:place]:
            raise ValueError(f"`{one.name}` stands there twice")
    return found


def _split(point: str, entry: Any) -> tuple[str, Any]:
    if isinstance(entry, str) and entry:
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        [(name, given)] = entry.items()
        return str(name), {} if given is None else given
    raise ValueError(f"a {_one(point)} is its name, or `{{name: {{its settings}}}}` (found {entry!r})")


def _imported(point: str, path: str, protocol: type) -> type[Plug]:
    module, _, name = path.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"can't import the {_one(point)} `{path}`: {error}. Its module must lie on Python's path: install its "
            "package, or set PYTHONPATH to the folder that it lies in"
        ) from error
    if lacks := sorted(_members(protocol) - set(dir(kind))):
        raise ValueError(f"`{path}` is no {_one(point)}: it has no {', '.join(lacks)} (docs/extending.md)")
    settings = getattr(kind, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, Block)):
        raise ValueError(f"`{path}` is no {_one(point)}: its `Settings` must be an arte_plugin.config.block.Block")
    return kind


def _members(protocol: type) -> set[str]:
    """What a class must have to be a strategy of that kind."""
    found: set[str] = set()
    for base in protocol.__mro__:
        if getattr(base, "_is_protocol", False):
            found |= set(vars(base).get("__annotations__", ())) | {
                name for name, value in vars(base).items() if callable(value) and not name.startswith("_")
            }
    return found


def _one(point: str) -> str:
    return point.removesuffix("s")


def _said(error: Mapping[str, Any], settings: type[Block]) -> str:
    if error["type"] != "extra_forbidden":
        return str(error["msg"])
    known = list(settings.model_fields)
    near = difflib.get_close_matches(str(error["loc"][-1]), known, 1)
    return (
        f"there is no such key; {f'did you mean `{near[0]}`? ' if near else ''}known are {', '.join(known) or 'none'}"
    )
