"""Which examples stay, and in what form: one file a strategy (`plugs.Selector`)."""

from arte_plugin.plugs import Selector

#: By the name in the YAML.
SELECTORS: dict[str, type[Selector]] = {}
