"""Several ranks where torch was built for CUDA and there is no driver, as pip installs it on any machine."""

import os


def no_look_without_devices() -> None:
    """Keep Axolotl from asking CUDA for peer access between the ranks' devices where there are none.

    It does so whenever it loads a config for several ranks, and there the question itself is an error.
    """
    import torch
    from axolotl.utils import environment

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and torch.version.cuda is not None and not torch.cuda.is_available():
        environment.check_cuda_p2p_support = lambda: True
