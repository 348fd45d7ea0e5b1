"""What a draft, or a question, is worth to a student: one file a strategy (`plugs.Signal`)."""

from arte_plugin.plugs import Signal

#: By the name in the YAML.
SIGNALS: dict[str, type[Signal]] = {}
