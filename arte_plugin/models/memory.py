"""A model's memory goes back before the next is loaded: the teacher is never there twice, nor beside a student."""

import gc
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from arte_plugin.ranks import LOGGER

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(LOGGER)

#: Bytes of the device's memory that may stay behind: libraries keep workspaces of their own once they were used.
TOLERANCE = 200 * 10**6


def settle() -> None:
    """Leave out of later collections what is there now, all of it imported modules: call it before any model is loaded.

    Some million objects, which a collection would look through each time for half a second; Axolotl collects three
    times for each model that it loads.
    """
    if not gc.get_freeze_count():
        gc.freeze()


def release() -> None:
    """Give the memory of models that nobody holds any more back to the device; models have cycles, so it collects."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: "torch.device") -> int | None:
    """What a GPU has left: for others, and of what PyTorch has taken for itself. None for a device that is no GPU."""
    import torch

    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class Meter:
    """What a stage takes of the GPUs' memory, from when this is made until `stop`. Without a GPU it does nothing."""

    def __init__(self) -> None:
        import torch

        self._peaks = {"allocated": 0, "reserved": 0}
        self._reset: Callable[..., None] | None = None
        if not torch.cuda.is_available():
            return
        self._before, self._device_before = _held(), _in_use()
        self._allocated = max(_each(torch.cuda.memory_allocated))
        self._reset = torch.cuda.reset_peak_memory_stats
        if torch.cuda.is_initialized():
            for device in range(torch.cuda.device_count()):
                self._reset(device)
        # Axolotl starts the counts anew with every line that its trainer logs, and whenever it loads a model.
        torch.cuda.reset_peak_memory_stats = self._note_and_reset

    def stop(self) -> dict[str, int]:
        """Bytes: the peaks (`allocated`, `reserved`) of the GPU that had most, and what is reserved on all of them, at
        the start (`before`) and now that what nobody holds has been given back (`after`); and what is in use on them
        by any count and anybody (`device_before`, `device_after`), which PyTorch's own leaves out: its context, CUDA
        graphs, the pages of other libraries, other processes.

        Empty where nothing was allocated, and from the second time on.
        """
        import torch

        if self._reset is None:
            return {}
        self._note()
        torch.cuda.reset_peak_memory_stats = self._reset
        self._reset = None
        release()
        if self._peaks["allocated"] <= self._allocated:
            return {}
        both = {"before": self._before, "after": _held()}
        return {**self._peaks, **both, "device_before": self._device_before, "device_after": _in_use()}

    def _note_and_reset(self, device: object = None) -> None:
        self._note()
        if self._reset is not None:
            self._reset(device)

    def _note(self) -> None:
        import torch

        peaks = {"allocated": torch.cuda.max_memory_allocated, "reserved": torch.cuda.max_memory_reserved}
        for name, peak in peaks.items():
            self._peaks[name] = max(self._peaks[name], *_each(peak))


#: What `Meter.stop` tells of a stage's start, and of its end.
BEFORE, AFTER = ("before", "device_before"), ("after", "device_after")


def given_back(before: Mapping[str, int]) -> dict[str, int]:
    """What `Meter.stop` tells, for an end that comes later; `before` is what it told of the start.

    Empty where there is no GPU.
    """
    import torch

    if not torch.cuda.is_available():
        return {}
    release()
    return {**before, "after": _held(), "device_after": _in_use()}


def kept(used: Mapping[str, int], on_device: bool = False) -> int:
    """Bytes that a stage has not given back, from what `Meter.stop` told of it; `on_device`, by the GPU's own count.

    That one has CUDA's context in it where the stage was the first to use the GPU.
    """
    prefix = "device_" if on_device else ""
    return max(0, used.get(f"{prefix}after", 0) - used.get(f"{prefix}before", 0))


def check_given_back(stage: str, used: Mapping[str, int]) -> None:
    """Warn where a stage has kept more than `TOLERANCE`: the next model may not fit beside it."""
    if kept(used) > TOLERANCE:
        LOG.warning(
            "%s has not given back %.0f MB of the GPU's memory (%.0f MB reserved before, %.0f MB now). What comes next "
            "has so much less; should it run out of memory, start the run again: it goes on from here.",
            stage, kept(used) / 1e6, used["before"] / 1e6, used["after"] / 1e6,
        )  # fmt: skip


def logged_peaks(log: Path) -> dict[str, int]:
    """The peaks of a child's `axolotl train`, in bytes, from the lines of its trainer; empty where it had no GPU."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    peaks = {}
    for name, key in {"allocated": "max_allocated", "reserved": "device_reserved"}.items():
        # Each is the peak since the line before.
        found = [float(one) for one in re.findall(rf"'memory/{key} \(GiB\)': '?([\d.]+)", text)]
        if found and max(found) > 0:
            peaks[name] = int(max(found) * 2**30)
    return peaks


def _held() -> int:
    import torch

    return sum(_each(torch.cuda.memory_reserved))


def _in_use() -> int:
    import torch

    def used(device: int) -> int:
        free, total = torch.cuda.mem_get_info(device)
        return total - free

    return sum(_each(used))


def _each(count: Callable[[int], int]) -> list[int]:
    """Of every GPU that this process sees; asking before the first is used would start CUDA."""
    import torch

    if not torch.cuda.is_initialized():
        return [0]
    return [count(device) for device in range(torch.cuda.device_count())]
