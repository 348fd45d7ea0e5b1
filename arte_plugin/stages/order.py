"""All stages, in the order of `STAGES`; what adds to a stage's folder comes right behind it."""

from arte_plugin.stages import STAGES
from arte_plugin.stages.align import Align
from arte_plugin.stages.align_check import AlignCheck
from arte_plugin.stages.consistency import Consistency
from arte_plugin.stages.diagnose import Diagnose
from arte_plugin.stages.elicit import Elicit
from arte_plugin.stages.evaluate import Evaluate
from arte_plugin.stages.pair import Pair
from arte_plugin.stages.preference_set import PreferenceSet
from arte_plugin.stages.probe import ProbeDrafts
from arte_plugin.stages.regenerate import Regenerate
from arte_plugin.stages.sft import FineTuning
from arte_plugin.stages.stage import Stage
from arte_plugin.stages.student_dpo import StudentDpo
from arte_plugin.stages.worked_examples import WorkedExamples

#: One line a stage; the order is that of `STAGES`.
_OBJECTS: tuple[Stage, ...] = (
    Elicit(),
    WorkedExamples(),
    PreferenceSet(),
    ProbeDrafts(),
    Consistency(),
    Pair(),
    Align(),
    AlignCheck(),
    Regenerate(),
    FineTuning(),
    StudentDpo(),
    Evaluate(),
    Diagnose(),
)


def _place(stage: Stage) -> tuple[int, bool]:
    main, beside, _ = stage.name.partition("/")
    return list(STAGES).index(main), bool(beside)


IN_ORDER: tuple[Stage, ...] = tuple(sorted(_OBJECTS, key=_place))

_BEFORE = [stage for stage in IN_ORDER if _place(stage) < _place(Align())]
#: Before and behind the teacher's training, which is Axolotl's own.
BEFORE_TRAINING: tuple[Stage, ...] = tuple(_BEFORE)
AFTER_TRAINING: tuple[Stage, ...] = IN_ORDER[len(_BEFORE) + 1 :]
