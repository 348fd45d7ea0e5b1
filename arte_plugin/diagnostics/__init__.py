"""What a reader must know before believing a result: one file a strategy (`plugs.Diagnostic`)."""

from arte_plugin.plugs import Diagnostic

#: By the name in the YAML.
DIAGNOSTICS: dict[str, type[Diagnostic]] = {}
