"""What GPUs there are, for decisions that come before any is used."""

import functools
import json
import logging
import subprocess
import sys
from dataclasses import dataclass

from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: In a process of its own: asking starts CUDA, whose context takes some 500 MB of a GPU for as long as the process
#: lasts, be it one that only has servers do the work.
_LOOK = (
    "import json, torch; cuda = torch.cuda; "
    "sizes = [cuda.get_device_properties(one).total_memory for one in range(cuda.device_count())]; "
    "of_itself = cuda.is_available() and cuda.is_bf16_supported(including_emulation=False); "
    "print(json.dumps([sizes, cuda.is_bf16_supported(), of_itself] if cuda.is_available() else [[], False, False]))"
)

#: Seconds after which that process is not waited for any longer.
_PATIENCE = 120


@dataclass(frozen=True)
class Seen:
    """The GPUs that this process sees."""

    #: Bytes of each.
    memory: tuple[int, ...]
    #: Whether torch has bfloat16 there, be it emulated; and whether the GPUs compute in it themselves.
    bf16: bool
    computes_bf16: bool


def seen() -> Seen:
    """The GPUs that this process sees, without starting CUDA in it; where it has been started, it is asked itself."""
    import torch

    # By NVML, which starts nothing.
    if not torch.cuda.is_initialized() and torch.cuda.device_count() == 0:
        return Seen((), False, False)
    return _here() if torch.cuda.is_initialized() else _by_a_child()


@functools.cache
def _by_a_child() -> Seen:
    try:
        told = subprocess.run(
            [sys.executable, "-c", _LOOK], capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
        memory, bf16, computes_bf16 = json.loads(told.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        LOG.debug("a child could not tell of the GPUs (%s)", error)
        return _here()
    return Seen(tuple(memory), bf16, computes_bf16)


def _here() -> Seen:
    import torch

    if not torch.cuda.is_available():
        return Seen((), False, False)
    sizes = (torch.cuda.get_device_properties(one).total_memory for one in range(torch.cuda.device_count()))
    of_itself = torch.cuda.is_bf16_supported(including_emulation=False)
    return Seen(tuple(sizes), torch.cuda.is_bf16_supported(), of_itself)
