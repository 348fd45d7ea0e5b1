"""The kinds of answers that a task can have."""

from typing import Literal

AnswerType = Literal["choice", "boolean", "number", "text"]
