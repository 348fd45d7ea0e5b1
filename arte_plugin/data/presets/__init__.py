"""Tasks that come with the plugin, one YAML file a family, and how an entry `{preset: …}` becomes full tasks."""

import copy
import difflib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from arte_plugin.data.local_files import is_local
from arte_plugin.errors import any_of

#: The files, in the order in which they are shown. A family of one task has that task's name.
FAMILIES = ("bbh", "gsm8k", "arc", "piqa", "commonsense_qa")

_SOURCES = ("questions", "seed_questions", "validation_questions", "test_questions")


@cache
def family(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The tasks of a family by their preset's name, as they stand in the data file."""
    import yaml

    return yaml.safe_load(resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))


def members(preset: object) -> list[str]:
    """The presets that a name stands for: one, or all of a family. Raises `ValueError` for an unknown name."""
    if preset in FAMILIES:
        return list(family(str(preset)))
    known = [name for one in FAMILIES for name in family(one)]
    if preset in known:
        return [str(preset)]
    close = difflib.get_close_matches(str(preset).lower(), dict.fromkeys([*known, *FAMILIES]), n=3)
    families = ", ".join(f"{one} ({len(family(one))} tasks)" if len(family(one)) > 1 else one for one in FAMILIES)
    raise ValueError(
        f"there is no preset {preset!r}{f'; did you mean {any_of(close)}?' if close else '.'} The families are "
        f"{families}; `arte presets` lists every preset"
    )


def expand(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The full tasks that an entry of `tasks` with the key `preset` stands for.

    The entry's own keys win over the preset's; a source of questions is merged key by key. Raises `ValueError` for an
    unknown preset, and for a name or a single local file given to a family.
    """
    presets = members(entry["preset"])
    own = {key: value for key, value in entry.items() if key != "preset"}
    if len(presets) > 1:
        if "name" in own:
            raise ValueError(
                f"{entry['preset']} stands for {len(presets)} tasks, which can't all be called {own['name']!r}; leave "
                "`name` out, or name one task, such as " + presets[0]
            )
        for key in _SOURCES:
            path = _path(own.get(key))
            if path and is_local(path) and "{task}" not in path:
                raise ValueError(
                    f"{entry['preset']} stands for {len(presets)} tasks, which can't all have their `{key}` in {path}; "
                    "put {task} where the file's name tells the tasks apart"
                )
    return [_expanded(name, own) for name in presets]


def overview() -> list[list[str]]:
    """Name, category, type of answer and place on the Hub of every preset."""
    rows = []
    for name, task in ((name, task) for one in FAMILIES for name, task in family(one).items()):
        hub = ", ".join(task["questions"][key] for key in ("path", "name") if key in task["questions"])
        rows.append([name, task["category"], task["answer"], hub])
    return rows


def as_yaml(preset: str) -> str:
    """A preset, or all of a family, written out in full, indented as it stands under `tasks:`.

    Raises `ValueError` if there is none of that name.
    """
    import yaml

    class NoAnchors(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(expand({"preset": preset}), Dumper=NoAnchors, sort_keys=False, allow_unicode=True, width=112)
    return "".join(f"    {line}\n" for line in text.splitlines())


def _expanded(preset: str, own: dict[str, Any]) -> dict[str, Any]:
    last_part = preset.rsplit("/", 1)[-1]
    task: dict[str, Any] = {"name": last_part, **copy.deepcopy(family(preset.split("/")[0])[preset])}
    own = copy.deepcopy(own)
    for key in _SOURCES:
        if path := _path(own.get(key)):
            own[key]["path"] = path.replace("{task}", last_part)
    path = _path(own.get("questions"))
    if path and is_local(path) and "test_questions" not in own:
        # Whoever brings the questions may have no network, and need not know that the test set lies elsewhere.
        task.pop("test_questions", None)
    for key in _SOURCES:
        if isinstance(task.get(key), Mapping) and isinstance(own.get(key), Mapping):
            own[key] = {**task[key], **own[key]}
    return task | own


def _path(source: Any) -> str | None:
    path = source.get("path") if isinstance(source, Mapping) else None
    return path if isinstance(path, str) else None
