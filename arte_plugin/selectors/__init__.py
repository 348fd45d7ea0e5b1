"""Which examples stay, and in what form: one file a strategy (`plugs.Selector`)."""

from arte_plugin.plugs import Selector
from arte_plugin.selectors.reflected import Reflected

#: By the name in the YAML.
SELECTORS: dict[str, type[Selector]] = {"reflected": Reflected}
