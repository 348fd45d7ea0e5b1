"""The benchmarks that lm-evaluation-harness knows by name, and their data."""

import difflib
import functools
import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from arte_plugin.errors import ConfigError, any_of
from arte_plugin.ranks import LOGGER
from arte_plugin.stages.benchmark_results import Skipped
from arte_plugin.stages.student_lm import quiet

LOG = logging.getLogger(LOGGER)

#: Who has something to say while lm-eval works.
LOUD = ("lm_eval", "datasets", "huggingface_hub")


def check_names(names: Sequence[str]) -> None:
    """Raise `ConfigError` for a name that the installed lm-eval does not know."""
    if not names:
        return
    known = _manager().all_tasks
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or [task for task in known if name in task][:3]
            raise ConfigError(
                f"arte.evaluate.benchmarks: lm-eval {metadata.version('lm_eval')} has no task or group {name!r}"
                f"{f'; did you mean {any_of(near)}?' if near else '.'} `lm_eval ls tasks` lists them all."
            )


def load_tasks(names: Sequence[str], folder: Path) -> tuple[dict[str, dict[str, Any]], list[Skipped]]:
    """lm-eval's tasks by name in the YAML, with their data; and the names whose data can't be had."""
    from lm_eval.tasks import get_task_dict

    tasks: dict[str, dict[str, Any]] = {}
    skipped: list[Skipped] = []
    for name in names:
        LOG.info("benchmark %s: loading its data", name)
        try:
            with (folder / "lm_eval.log").open("a", encoding="utf-8") as log, quiet(*LOUD, output=log):
                tasks[name] = dict(_leaves(get_task_dict([name], _manager())))
        except Exception as error:
            if not _no_data(error):
                raise
            message = " ".join(str(error).split())
            fetch = f"from lm_eval.tasks import TaskManager; TaskManager().load_task_or_group('{name}')"
            reason = (
                f"its data is not in the cache here and did not come from the Hub ({type(error).__name__}: {message}). "
                f'Fetch it once, where there is a network, by `python -c "{fetch}"`; the next run tries again.'
            )
            LOG.warning("benchmark %s skipped: %s", name, reason)
            skipped.append(Skipped(name, reason))
    return tasks, skipped


@functools.cache
def _manager() -> Any:
    """lm-eval's index of its tasks: some seconds to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, member in tree.items():
        if isinstance(member, Mapping):
            yield from _leaves(member)
        else:
            yield name, member


def _no_data(error: Exception) -> bool:
    """Whether this is what loading a data set comes to without a network, a cache or access; nothing else is.

    Without a network `huggingface_hub` raises whatever its HTTP client does, a RuntimeError even, so the place tells.
    """
    frames = traceback.walk_tb(error.__traceback__)
    modules = {frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in frames}
    return "datasets" in modules and (
        isinstance(error, (ConnectionError, TimeoutError, FileNotFoundError))
        or "huggingface_hub" in modules
        or str(error).startswith("Couldn't find cache for ")
    )
