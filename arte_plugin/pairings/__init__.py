"""Which preference pairs follow from what drafts are worth: one file a strategy (`plugs.Pairing`)."""

from arte_plugin.pairings.best_worst import BestWorst
from arte_plugin.pairings.right_over_wrong import RightOverWrong
from arte_plugin.pairings.teacher_over_student import TeacherOverStudent
from arte_plugin.pairings.threshold import Threshold
from arte_plugin.plugs import Pairing

#: By the name in the YAML.
PAIRINGS: dict[str, type[Pairing]] = {
    "best_worst": BestWorst,
    "threshold": Threshold,
    "right_over_wrong": RightOverWrong,
    "teacher_over_student": TeacherOverStudent,
}
