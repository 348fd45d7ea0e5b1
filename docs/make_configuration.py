"""Write `docs/configuration.md` from `arte_plugin/config/`; with `--check`, fail when it is stale.

python -m docs.make_configuration [--check]
"""

import sys
import types
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.block import Block
from arte_plugin.config.plugs import POINTS
from arte_plugin.config.tasks import QuestionsArgs
from docs.generated import DOCS, write_or_check

HEAD = """\
# Configuration

Every key of the `arte:` block. This page is written from `arte_plugin/config/` by `docs/make_configuration.py`
(`make docs`), and a test fails when it is stale. Defaults are the paper's. A key that does not exist is an error.

Everything outside `arte:` is Axolotl's own configuration of the teacher's DPO. ARTE needs three things there:

```yaml
rl: dpo
plugins: [arte_plugin.ArtePlugin]
datasets:
  - {path: "arte://pairs", type: arte_plugin.preference_pairs}   # filled in by the plugin
```

"""

STRATEGIES = """\
# Strategies

The keys of strategies that have any, wherever the YAML names them: `name`, or `{name: {key: value}}`. What each does is
in [strategies.md](strategies.md).
"""


def main() -> int:
    return write_or_check(
        DOCS / "configuration.md", HEAD + "\n".join([*_sections("arte", ArteArgs), STRATEGIES, *_strategies()])
    )


def _strategies() -> list[str]:
    """The settings of each strategy that has any, under its own name."""
    return [
        section
        for point, (known, _) in POINTS.items()
        for name, kind in known.items()
        if kind.Settings.model_fields
        for section in _sections(f"{point.removesuffix('s')}: {name}", kind.Settings)
    ]


def _sections(path: str, block: type[Block]) -> list[str]:
    kind = block.model_fields.get("kind")
    which = f", `kind: {get_args(kind.annotation)[0]}`" if kind else ""
    rows = [f"## `{path}`{which}\n", f"{(block.__doc__ or '').strip()}\n"]
    rows += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    inner: list[tuple[str, type[Block]]] = []
    for name, field in block.model_fields.items():
        rows.append(
            f"| `{name}` | {_type(field.annotation)}{_bounds(field)} | {_default(field)} | {field.description} |"
        )
        # Each once: a key may take one block or a list of them.
        for member in dict.fromkeys(_blocks(field.annotation)):
            # A source of questions looks the same wherever it stands.
            if member is not QuestionsArgs or name == "questions":
                inner.append((f"{path}.{name}{'[]' if get_origin(field.annotation) is list else ''}", member))
    sections = ["\n".join(rows) + "\n"]
    for inner_path, member in inner:
        sections += _sections(inner_path, member)
    return sections


def _blocks(annotation: Any) -> list[type[Block]]:
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return [annotation]
    return [block for part in get_args(annotation) for block in _blocks(part)]


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if origin is list:
        return f"list of {_type(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    if hasattr(annotation, "__metadata__"):
        return _type(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return "a source" if annotation is QuestionsArgs else "block"
    return {int: "integer", float: "number", str: "text", bool: "true or false"}.get(annotation, str(annotation))


def _bounds(field: FieldInfo) -> str:
    signs = {Ge: ("ge", "≥ {}"), Gt: ("gt", "> {}"), Le: ("le", "≤ {}"), Lt: ("lt", "< {}")}
    signs |= {MinLen: ("min_length", "at least {} long"), MaxLen: ("max_length", "at most {} long")}
    shown = [
        form.format(getattr(bound, name))
        for bound in field.metadata
        for kind, (name, form) in signs.items()
        if isinstance(bound, kind)
    ]
    return f", {', '.join(shown)}" if shown else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory is not None:
        made = field.get_default(call_default_factory=True)
        return "" if isinstance(made, Block) else "see there" if isinstance(made, dict) and made else "none"
    if field.default is None:
        return "none"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    sys.exit(main())
