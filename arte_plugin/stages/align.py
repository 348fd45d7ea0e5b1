"""Stage 5, the teacher's training: Axolotl's own DPO. What the run has to know of it is in `run/run.py`."""

from typing import ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.stages.stage import Stage


class Align(Stage):
    """Stage 5. It has no work here: it stands for its place in the order."""

    name: ClassVar[str] = "align"
    what = "Axolotl trains the teacher on the pairs (DPO)"
    reads: ClassVar = {"pairs": ("pair", "pairs.jsonl")}
    behind = ("pair",)

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        """With `from_run`, the teacher comes aligned."""
        return args.from_run is None
