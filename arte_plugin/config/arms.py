"""`arte.arms`: the data sets that a student is trained on."""

from typing import Literal

Arm = Literal[
    "arte",
    "unaligned",
    "original_teacher",
    "rationale_only",
    "question_only",
    "random_technique",
    "most_preferred",
    "task_consistent",
]
