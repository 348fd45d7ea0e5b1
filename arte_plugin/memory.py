"""A model's memory goes back before the next is loaded: the teacher is never there twice, nor beside a student."""

import gc


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
