"""Which models are in memory: counted by their parameters, wherever something still holds them."""

import gc
import json
import os
from pathlib import Path

from axolotl.integrations.base import BasePlugin

#: Where `AlivePlugin` writes.
ALIVE_FILE = "ARTE_TEST_ALIVE"


def alive_models(shape: tuple[int, int]) -> int:
    """How many models are there whose embedding matrix, which nothing quantises, has this `shape`; copies count too.

    What `gc.freeze` has put aside is looked through too: no model must be there.
    """
    import torch

    gc.unfreeze()
    gc.collect()
    matrices = [
        one for one in gc.get_objects()
        # Not `isinstance`: it would wake up modules that are imported when they are first used.
        if issubclass(type(one), torch.Tensor) and tuple(one.shape) == shape and one.device.type != "meta"
    ]  # fmt: skip
    # Of the weights that an engine has packed, one lies beside its model; it must be gone with it.
    packed = sum(one.is_mkldnn for one in matrices)
    return max(packed, len({one.untyped_storage().data_ptr() for one in matrices if not one.is_mkldnn}))


def embedding_shape(folder: Path) -> tuple[int, int]:
    """Of the model in `folder`."""
    config = json.loads((folder / "config.json").read_text())
    return config["vocab_size"], config["hidden_size"]


def watch_engines(note, monkeypatch=None) -> None:
    """Call `note()` whenever an engine has been given its model."""
    from arte_plugin.engines.transformers import TransformersEngine

    made = TransformersEngine.__init__

    def noted(self, *arguments, **settings):
        made(self, *arguments, **settings)
        note()

    if monkeypatch is None:
        TransformersEngine.__init__ = noted
    else:
        monkeypatch.setattr(TransformersEngine, "__init__", noted)


class AlivePlugin(BasePlugin):
    """For a real `axolotl train`, named in front of ArtePlugin: notes how many models are alive, and when.

    That is, whenever a model has been loaded to generate; and of the training, before the teacher is loaded, when the
    trainer has it, and when both should be gone.
    """

    def register(self, cfg):
        self._file = Path(os.environ[ALIVE_FILE])
        self._shape = embedding_shape(Path(cfg["base_model"]))
        watch_engines(lambda: self._note("engine"))

    def _note(self, when):
        with self._file.open("a") as file:
            file.write(f"{when} {alive_models(self._shape)}\n")

    def pre_model_load(self, cfg):
        self._note("load")

    def add_callbacks_post_trainer(self, cfg, trainer):
        self._note("trainer")
        return []

    def post_train_unload(self, cfg):
        self._note("unload")
