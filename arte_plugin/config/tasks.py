"""`arte.tasks`: the target tasks and where their questions come from."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from arte_plugin.config.block import Block
from arte_plugin.language.answer_types import AnswerType
from arte_plugin.language.prompts import DEFAULT_TECHNIQUES


class QuestionsArgs(Block):
    """Where labelled questions come from."""

    path: str = Field(description="A local JSONL, JSON, CSV or Parquet file, or a data set on the Hub.")
    split: str = Field("train", description="Split of a data set on the Hub; a local file has only one.")
    name: str | None = Field(None, description="Configuration of a data set on the Hub.")
    revision: str | None = Field(
        None, min_length=1, description="Branch, tag or commit of a data set on the Hub; default: the newest."
    )
    question: str = Field("question", description="Column that holds the question.")
    answer: str = Field("answer", description="Column that holds the right answer.")
    answer_after: str | None = Field(
        None,
        min_length=1,
        description="Only what follows the last such text in the answer column is the answer, as `####` in GSM8K; if "
        "`rationale` names the same column, what stands before it is the worked solution.",
    )
    options: str | Annotated[list[str], Field(min_length=2)] | None = Field(
        None,
        description="Where a multiple-choice question keeps its options: a column with a list of texts, a column with "
        "`{text: […], label: […]}`, or a list of columns with one text each. They are put behind the question as "
        "`(A) …`. The answer is then one of the labels, if there are any; else a number is a place counted from 0, "
        "and a letter a letter.",
    )
    rationale: str | None = Field(
        None,
        description="Column that holds a worked solution, shown in few-shot prompts; the tagged answer is put behind "
        "it where it has none. Without this key only the answer is shown.",
    )
    rationale_without: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None,
        description="Two marks: what stands between them is left out of the worked solution, and so are they; "
        "`['<<', '>>']` takes out GSM8K's calculator notes.",
    )
    bad_rows: Literal["stop", "drop"] = Field(
        "stop",
        description="A row without a question or without an answer that can be read, or one that gives a question "
        "another answer than an earlier row: `stop` there, or `drop` such rows and say how many.",
    )

    @field_validator("rationale_without")
    @classmethod
    def _two_marks(cls, marks: list[str] | None) -> list[str] | None:
        if marks and not all(marks):
            raise ValueError("a mark can't be empty")
        return marks


class TaskArgs(Block):
    """A target task: what the student has to become good at."""

    preset: str | None = Field(
        None,
        description="A task that comes with the plugin (docs/presets.md, `arte presets`), or a family for all of its "
        "tasks. It gives every other key; those that stand here win. `{task}` in a path is the last part of its name.",
    )
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=80,
        description="Name of the task in every file and table: letters, digits, `_`, `.` and `-`.",
    )
    description: str = Field(
        min_length=1, description="What the task asks for, in a sentence or two; begins every prompt."
    )
    category: str | None = Field(None, description="A label to group tasks by; goes into the results.")
    questions: QuestionsArgs | None = Field(
        None, description="Labelled questions, from which the splits given as numbers are drawn without overlap."
    )
    seed_questions: Annotated[int, Field(ge=1)] | QuestionsArgs = Field(
        10, description="Questions shown to the teacher and in few-shot prompts: how many, or a source of their own."
    )
    validation_questions: Annotated[int, Field(ge=1)] | QuestionsArgs = Field(
        100, description="Questions that the preference set is chosen from: how many, or a source of their own."
    )
    test_questions: Annotated[int, Field(ge=1)] | QuestionsArgs | None = Field(
        None, description="Questions for the last evaluation: how many, a source of their own, or all that are left."
    )
    answer: AnswerType = Field(
        "text", description="What an answer is, which decides how answers are read and compared."
    )
    techniques: dict[str, str] = Field(
        default_factory=lambda: dict(DEFAULT_TECHNIQUES),
        min_length=2,
        description="Ways to ask for a rationale: name and instruction, at least two; by default four general ones.",
    )

    @field_validator("name")
    @classmethod
    def _not_a_path(cls, name: str) -> str:
        if ".." in name:
            raise ValueError("a task name names files, so it can't contain '..'")
        return name

    @model_validator(mode="after")
    def _numbers_need_a_source(self) -> "TaskArgs":
        splits = {"seed_questions": self.seed_questions, "validation_questions": self.validation_questions}
        splits["test_questions"] = self.test_questions if self.test_questions is not None else 0
        drawn = [key for key, value in splits.items() if isinstance(value, int)]
        if drawn and self.questions is None:
            raise ValueError(f"{', '.join(drawn)} are drawn from `questions`, which is not given")
        return self

    @model_validator(mode="after")
    def _options_have_letters(self) -> "TaskArgs":
        sources = (self.questions, self.seed_questions, self.validation_questions, self.test_questions)
        if self.answer != "choice" and any(isinstance(one, QuestionsArgs) and one.options for one in sources):
            raise ValueError(f"`options` get letters, so they need `answer: choice` (found `answer: {self.answer}`)")
        return self
