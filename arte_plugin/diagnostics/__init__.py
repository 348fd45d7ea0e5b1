"""What a reader must know before believing a result: one file a strategy (`plugs.Diagnostic`)."""

from arte_plugin.diagnostics.diversity import Diversity
from arte_plugin.diagnostics.length import Length
from arte_plugin.plugs import Diagnostic

#: By the name in the YAML.
DIAGNOSTICS: dict[str, type[Diagnostic]] = {"diversity": Diversity, "length": Length}
