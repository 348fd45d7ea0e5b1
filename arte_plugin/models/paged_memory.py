"""What bitsandbytes' paged optimizers leave behind: CUDA's managed memory, which PyTorch neither counts nor frees."""

import ctypes
import gc
import logging
import sys
import weakref
from typing import Any

from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)


def give_back() -> int:
    """Free the states of paged optimizers that nobody holds any more; returns the bytes.

    bitsandbytes enters each in a list that lasts as long as the process, and has no way to free it: beside the models
    of the later stages they would stay on the GPU, or be pushed to and fro. Call it when the training is over.
    """
    manager = getattr(sys.modules.get("bitsandbytes.functional"), "GlobalPageManager", None)
    held: list[Any] = manager.get_instance().paged_tensors if manager else []
    if not held:
        return 0
    gc.collect()
    freed, kept = 0, []
    while held:
        tensor = held.pop()
        place, size, alive = tensor.data_ptr(), tensor.nbytes, weakref.ref(tensor)
        del tensor
        if (other := alive()) is not None:
            # The optimizer is still there, and would write to memory that is gone.
            kept.append(other)
        elif _free(place):
            freed += size
    held.extend(reversed(kept))
    left = sum(tensor.nbytes for tensor in kept)
    if left:
        LOG.warning("the paged optimizer still holds %.0f MB of the GPU's memory", left / 1e6)
    return freed


def _free(place: int) -> bool:
    """`cudaFree` by the runtime that torch and bitsandbytes have loaded; whether it worked."""
    import torch

    try:
        runtime = ctypes.CDLL(f"libcudart.so.{str(torch.version.cuda).partition('.')[0]}")
    except OSError:
        return False
    runtime.cudaFree.argtypes = [ctypes.c_void_p]
    return bool(runtime.cudaFree(place) == 0)
