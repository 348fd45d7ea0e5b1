"""What is said where a teacher has written nothing that can be used: what came, and what to do."""

from collections import Counter
from collections.abc import Sequence

from arte_plugin.data.tasks import Task
from arte_plugin.models.model import Model
from arte_plugin.rows import Dropped


def no_question(task: Task, teacher: Model, replies: Sequence[str], dropped: Sequence[Dropped], prefill: bool) -> str:
    """Of a task's questions."""
    return (
        f"Task {task.name}: the teacher {teacher.name} wrote no usable question in {len(replies)} calls "
        f"({_reasons(dropped)}). {_remedy(teacher, dropped, prefill)} Its first reply was:\n"
        f"{_excerpt(replies[0])}"
    )


def no_rationale(task: Task, teacher: Model, dropped: Sequence[Dropped], prefill: bool) -> str:
    """Of its rationales."""
    return (
        f"Task {task.name}: none of the {len(dropped)} rationales of the teacher {teacher.name} ends in <ans>…</ans> "
        f"with an answer of the type {task.args.answer} ({_reasons(dropped)}). {_remedy(teacher, dropped, prefill)} "
        "If only the aligned teacher fails, lower its learning rate. The first rationale was:\n"
        f"{_excerpt(dropped[0].text)}"
    )


def _reasons(dropped: Sequence[Dropped]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in dropped).most_common())


def _remedy(teacher: Model, dropped: Sequence[Dropped], prefill: bool) -> str:
    if teacher.renderer.thought:
        if any(row.reason.endswith("thought_unfinished") for row in dropped):
            return "Raise `arte.teacher.reasoning_tokens`, or set `arte.teacher.reasoning: false`."
        return "Try a larger teacher."
    return "Try a larger teacher." if prefill else "A small teacher may need `arte.elicit.prefill: true`."


def _excerpt(text: str) -> str:
    return text if len(text) <= 600 else text[:600] + "…"
