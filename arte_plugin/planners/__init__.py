"""What the teacher is asked for next: one file a strategy (`plugs.Planner`)."""

from arte_plugin.planners.errors import Errors
from arte_plugin.planners.gap_shares import GapShares
from arte_plugin.planners.paper import Paper
from arte_plugin.plugs import Planner

#: By the name in the YAML.
PLANNERS: dict[str, type[Planner]] = {"paper": Paper, "errors": Errors, "gap_shares": GapShares}
