"""The committed matrix: what the student made of every draft on every preference question, without any texts."""

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
MATRIX, QUESTIONS = FOLDER / "matrix.jsonl", FOLDER / "questions.jsonl"


@dataclass(frozen=True)
class Cell:
    """One draft and one preference question."""

    outcome: str
    #: ln P of the right answer, with the draft as the example, and with only its answer.
    likelihood: float
    without_rationale: float
    #: The first again, of the wrong truth value; None where the answers are no truth values.
    wrong_one: float | None = None


@dataclass(frozen=True)
class Matrix:
    """One task. Cells by draft and preference question; every draft has every question."""

    task: str
    question_of: dict[str, str]
    cells: dict[tuple[str, str], Cell]
    #: Of each preference question, by item response theory.
    discrimination: dict[str, float]

    @property
    def preference_ids(self) -> list[str]:
        """The preference set."""
        return list(self.discrimination)

    def right(self, draft: str, question: str) -> bool:
        """Whether the student's answer was correct."""
        return self.cells[draft, question].outcome == "correct"

    def full_score(self, draft: str) -> float:
        """The paper's s_r."""
        return sum(self.right(draft, question) for question in self.preference_ids) / len(self.preference_ids)


def load() -> list[Matrix]:
    """The tasks of the matrix."""
    drafts = [json.loads(line) for line in MATRIX.read_text().splitlines()]
    questions = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    return [
        Matrix(
            task=task,
            question_of={row["draft_id"]: row["question_id"] for row in drafts if row["task"] == task},
            cells={
                (row["draft_id"], preference_id): Cell(*cell)
                for row in drafts
                if row["task"] == task
                for preference_id, cell in row["cells"].items()
            },
            discrimination={row["preference_id"]: row["discrimination"] for row in questions if row["task"] == task},
        )
        for task in dict.fromkeys(row["task"] for row in drafts)
    ]
