"""What a reader must know before believing a result: one file a strategy (`plugs.Diagnostic`)."""

from arte_plugin.diagnostics.alignment import Alignment
from arte_plugin.diagnostics.diversity import Diversity
from arte_plugin.diagnostics.format import Format
from arte_plugin.diagnostics.hacking import Hacking
from arte_plugin.diagnostics.hollowing import Hollowing
from arte_plugin.diagnostics.length import Length
from arte_plugin.diagnostics.preference_set import PreferenceSet
from arte_plugin.plugs import Diagnostic

#: By the name in the YAML, in the order in which they are shown.
DIAGNOSTICS: dict[str, type[Diagnostic]] = {
    "format": Format,
    "length": Length,
    "diversity": Diversity,
    "hacking": Hacking,
    "hollowing": Hollowing,
    "preference_set": PreferenceSet,
    "alignment": Alignment,
}
