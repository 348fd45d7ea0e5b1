"""The engine that stays when a stage is done, for the next stage that asks the same model."""

import logging
from collections.abc import Collection

from arte_plugin.engines.base import Engine
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)


class KeptEngine:
    """At most one engine, with its model's weights in memory or its server running, under the model's identity."""

    def __init__(self) -> None:
        self._key = ""
        self._engine: Engine | None = None

    @property
    def holds(self) -> bool:
        """Whether there is one."""
        return self._engine is not None

    def put(self, key: str, engine: Engine) -> None:
        """Keep `engine`, in the place of another."""
        self.close()
        self._key, self._engine = key, engine

    def take(self, key: str, name: str) -> Engine | None:
        """The engine of the model with this `key`, which is `name`; else None, and there is room for it."""
        if self._engine is None or key != self._key:
            self.close()
            return None
        LOG.info("%s is still there: nothing has to be loaded or started", name)
        engine, self._engine = self._engine, None
        return engine

    def keep_only(self, keys: Collection[str]) -> None:
        """End what is kept unless it is one of `keys`."""
        if self._key not in keys:
            self.close()

    def close(self) -> None:
        """End what is kept, and give back its memory."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
