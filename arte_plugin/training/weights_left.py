"""What the teacher's training left in its folder, entered at its end: another training's is not taken for it.

Axolotl writes `adapter_config.json` before it trains. A training with another `lora_alpha` that was stopped at once
leaves the old weights beside a scale that they were never trained for, and nothing that looks for files sees it.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arte_plugin import ranks
from arte_plugin.models.identity import digests
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import write_text

LOG = logging.getLogger(LOGGER)

#: Where it stands in the result of the stage.
KEY = "left"

_ADAPTER = "adapter_config.json"
_WEIGHTS = (".safetensors", ".bin")


def entry(folder: Path) -> dict[str, Any]:
    """The files that the aligned teacher is loaded from, by name, each with its hash; of an adapter, its config too."""
    return {
        "files": {name: one for name, one in digests(folder).items() if _is_loaded(name)},
        "adapter_config": (folder / _ADAPTER).read_text(encoding="utf-8") if (folder / _ADAPTER).is_file() else None,
    }


def differences(folder: Path, left: Mapping[str, Any]) -> list[str]:
    """What lies in `folder` and is not as it was `left`, in words; empty where all is."""
    then, now = left["files"], entry(folder)
    found = [f"{name} is gone" for name in then if name not in now["files"]]
    for name, digest in now["files"].items():
        if name == _ADAPTER and then.get(name) not in (None, digest):
            found.append(f"{name} says {_changed_keys(left['adapter_config'], now['adapter_config'])}")
        elif then.get(name) not in (None, digest):
            found.append(f"{name} holds something else")
        elif name not in then and name.endswith(_WEIGHTS) and any(one.endswith(_WEIGHTS) for one in then):
            found.append(f"{name} has come")
    return found


def check(folder: Path, left: Mapping[str, Any], timeout: float) -> str:
    """What is wrong with `folder`, for a message; empty where all is as it was `left`.

    Where only an adapter's config has been written over, the first rank puts it back: its weights are still there. The
    others wait up to `timeout` seconds for it.
    """
    found = differences(folder, left)
    if not found:
        return ""
    wrong = f"What lies in {folder} is not what the teacher's training left: {'; '.join(found)}."
    if not all(one.startswith(f"{_ADAPTER} says") for one in found):
        LOG.warning("%s The teacher is trained again.", wrong)
        return wrong
    if ranks.is_first():
        write_text(folder / _ADAPTER, left["adapter_config"])
        LOG.warning("%s Another training was started there. The weights are the right ones: it is put back.", wrong)
    done = lambda: int(not differences(folder, left))  # noqa: E731
    ranks.wait_until(done, 1, timeout, f"rank 0 to put {_ADAPTER} back")
    return ""


def _is_loaded(name: str) -> bool:
    return name in ("config.json", _ADAPTER) or name.endswith((*_WEIGHTS, ".index.json"))


def _changed_keys(then: str | None, now: str | None) -> str:
    try:
        before, after = json.loads(then or ""), json.loads(now or "")
    except ValueError:
        return "something else"
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return (
        ", ".join(f"`{key}: {after.get(key)}` instead of {before.get(key)}" for key in keys)
        or "the same in another form"
    )
