"""A wrong `arte:` block, told in the words of the YAML."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from arte_plugin.config import arms, engines, student
from arte_plugin.config.arte import ArteConfig
from arte_plugin.config.block import Block
from arte_plugin.errors import ConfigError

#: Members of unions: one student or a list of them; an engine in this process or servers. Pydantic names these in the
#: place of an error, where they say nothing to a reader.
_TAGS = {*student.TAGS, *engines.TAGS, *arms.TAGS}


def check_config(cfg: Any) -> ArteConfig:
    """Validate the raw YAML as far as ARTE is concerned.

    Raises `ConfigError` with one line for each problem: the key, what is wrong, what was found.
    """
    values = cfg.to_dict() if hasattr(cfg, "to_dict") else dict(cfg)
    try:
        return ArteConfig.model_validate(values)
    except ValidationError as error:
        problems = list(dict.fromkeys(_problem(detail) for detail in error.errors()))
        raise ConfigError("The config can't be used:\n" + "\n".join(f"  - {line}" for line in problems)) from None


def _problem(detail: Any) -> str:
    place = ""
    for part in detail["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part in _TAGS:
            continue
        elif part in known_keys() or detail["type"] == "extra_forbidden" or detail["loc"][-1] == part:
            # Pydantic also names the members of a union here, which say nothing to a reader of the YAML.
            place += f".{part}" if place else str(part)
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(detail["loc"][-1]), keys_beside(detail["loc"]), n=1)
        return f"{place}: there is no such key{f'; did you mean `{close[0]}`?' if close else ''}"
    if detail["type"] == "missing":
        return f"{place}: this key is required"
    if detail["type"] == "value_error":
        return f"{place}: {message}" if place else message
    return f"{place}: {message} (found {detail['input']!r})"


def known_keys() -> set[str]:
    """Every key that may stand somewhere in the `arte:` block."""
    return {"arte", *(name for block in blocks(Block) for name in block.model_fields)}


def keys_beside(loc: Sequence[str | int]) -> list[str]:
    """The keys that may stand where pydantic found `loc`."""
    blocks: list[type[BaseModel]] = [ArteConfig]
    for part in loc[:-1]:
        inner = [member for block in blocks if part in block.model_fields for member in _members(block, str(part))]
        # Places in a list, and members of a union, are parts of `loc` too.
        blocks = inner or blocks
    return sorted({name for block in blocks for name in block.model_fields})


def _members(block: type[BaseModel], key: str) -> list[type[BaseModel]]:
    found, todo = [], [block.model_fields[key].annotation]
    while todo:
        annotation = todo.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        todo += get_args(annotation)
    return found


def blocks(parent: type[Block]) -> Iterator[type[Block]]:
    """Every block that is made from `parent`, at any depth."""
    for block in parent.__subclasses__():
        yield block
        yield from blocks(block)


def raw_config(path: str) -> Mapping[str, Any]:
    """The YAML as it stands, for commands that need no Axolotl. Raises `ConfigError` for a file that is no mapping."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"Can't read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no Axolotl config: expected keys and values at the top level.")
    return content
