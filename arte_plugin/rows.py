"""The rows that flow through the loop, one frozen data class each, and how they are read from and written to JSONL.

Question -> Draft -> Probe -> Score -> PreferencePair -> [teacher DPO] -> TailoredExample -> [student SFT] -> Result
"""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

from arte_plugin.errors import DataError

#: Marks a field that came later: it is written only where it says something, so that other rows stay as they were.
LATER = {"later": True}

Outcome = Literal["correct", "wrong", "unparsed"]
Level = Literal["question", "rationale"]

#: Behind the name of an arm: its student after a DPO of its own (stage 7b).
DPO = "+dpo"


@dataclass(frozen=True)
class Question:
    """A labelled question of a task: a seed, validation or test question."""

    question_id: str
    task: str
    question: str
    target: str
    #: A worked solution for few-shot prompts; empty where the data has none.
    rationale: str = ""


@dataclass(frozen=True)
class Draft:
    """A question that the teacher wrote, with one of its rationales: (q, r) in the paper."""

    draft_id: str
    task: str
    question_id: str
    question: str
    #: The answer that the teacher claims for its own question.
    target: str
    technique: str
    rationale: str
    #: The answer between the rationale's tags; may differ from `target`, which the paper does not filter.
    answer: str
    #: The question-generation prompt that the teacher saw, seeds included: the prompt of a question-level pair.
    question_prompt: str
    #: The plain step-by-step prompt of this question: the prompt of a rationale-level pair (prompt erasure).
    solve_prompt: str
    #: What the teacher had written in reply to `question_prompt` before this question; early versions kept none of it.
    question_begun: str = ""


@dataclass(frozen=True)
class WorkedSeed:
    """A seed question that the teacher solved, to be shown in few-shot prompts."""

    task: str
    question_id: str
    question: str
    target: str
    #: Greedy, under the plain prompt; it ends in the target.
    rationale: str


@dataclass(frozen=True)
class Response:
    """One respondent's answer to one validation question: a cell of the IRT matrix."""

    respondent: str
    shots: int
    task: str
    question_id: str
    response: str
    answer: str
    outcome: Outcome
    #: How the reply ended that the student wrote by itself: `length` where it was cut off. Early versions wrote neither
    #: this nor the tokens that were generated.
    finish: Literal["stop", "length"] | None = None
    new_tokens: int | None = None
    #: Whether it was asked for its answer behind a reply without one (`probe.ask_again`).
    asked_again: bool = False


@dataclass(frozen=True)
class PreferenceQuestion:
    """A member of the preference set. Without IRT (`random`, `all`) the two parameters are None."""

    preference_id: str
    task: str
    question: str
    target: str
    discrimination: float | None
    difficulty: float | None


@dataclass(frozen=True)
class Probe:
    """One student call: the draft as the single in-context example, one preference question (paper, eq. 3)."""

    draft_id: str
    preference_id: str
    task: str
    student: str
    response: str
    answer: str
    outcome: Outcome
    #: As in `Response`, and so the other two.
    finish: Literal["stop", "length"] | None = None
    new_tokens: int | None = None
    asked_again: bool = False


@dataclass(frozen=True)
class AnswerLikelihood:
    """How likely the student finds a preference question's right answer with the draft as its one example."""

    draft_id: str
    preference_id: str
    task: str
    student: str
    #: Natural logarithm, of the answer with the tag that ends it.
    log_probability: float
    tokens: int


@dataclass(frozen=True)
class Score:
    """s_r of the paper (eq. 1, 3): share of the `n` preference questions answered right, and a 95 % interval."""

    draft_id: str
    question_id: str
    task: str
    student: str
    score: float
    n: int
    low: float
    high: float
    #: How many of the n answers could not be parsed; they count as not correct.
    unparsed: int
    #: Of these, how many ran out of tokens; how many of the n were asked for their answer a second time.
    cut_off: int = 0
    asked_again: int = 0
    #: The two parts of the score: P(readable) × P(right when readable). None in rows of early versions, without
    #: generation, and the second where nothing can be read.
    readable: float | None = None
    right_when_readable: float | None = None
    #: The signals whose weighted mean it is (`arte.signals`); empty for the paper's, or that of likelihoods alone.
    signals: str = dataclasses.field(default="", metadata=LATER)


@dataclass(frozen=True)
class Attempt:
    """A model's own answer to a question, without any example."""

    attempt_id: str
    #: Who answered, by its name; a tuned student by its name and its arm, `gemma-2b/arte`.
    who: str
    task: str
    question_id: str
    #: 0: greedy; 1, 2, …: sampled.
    sample: int
    prompt: str
    response: str
    answer: str
    #: Against the question's target: a draft's is what the teacher claims.
    outcome: Outcome


@dataclass(frozen=True)
class Measure:
    """One number that a signal gives a draft or a question."""

    signal: str
    of: Literal["draft", "question"]
    #: `draft_id` or `question_id`.
    id: str
    task: str
    student: str
    #: 0..1, higher is better; and on the signal's own scale.
    value: float
    raw: float
    #: What it is a mean of, and a 95 % interval of `value`; (0, 1) where none is known.
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Order:
    """One thing that the teacher is asked for. A kill, a cache and the rows that come of it all go by `order_id`."""

    order_id: str
    task: str
    operator: str
    #: Questions that the reply should hold; 1 for a rationale.
    wanted: int = 1
    #: Shown as examples.
    seeds: tuple[Question, ...] = ()
    #: What it starts from.
    parent: Question | None = None
    rationale: str = ""
    attempt: Attempt | None = None
    #: Further questions that the student got wrong, each with what it answered; shown beside `parent`.
    errors: tuple[tuple[Question, Attempt], ...] = ()
    #: Words for the teacher alone (skills, reports, principles, passages): no student ever sees them.
    notes: tuple[str, ...] = ()

    def named(self, *parts: str) -> "Order":
        """The same with an id that is made of all that it holds, and of `parts`: which turn it is, say."""
        held = {key: value for key, value in dataclasses.asdict(self).items() if key != "order_id"}
        return dataclasses.replace(self, order_id=content_id(json.dumps(held, sort_keys=True), *parts))


@dataclass(frozen=True)
class PreferencePair:
    """One DPO row, as plain text: the strategy puts the teacher's chat template around it."""

    pair_id: str
    level: Level
    task: str
    prompt: str
    chosen: str
    rejected: str
    chosen_score: float
    rejected_score: float
    chosen_id: str
    rejected_id: str
    #: Question level: what of the reply stands before both, no part of what is trained on.
    begun: str = ""
    #: Question level: whose prompt it is; `both` wrote within one call, or with the same beginning.
    prompt_of: Literal["", "both", "chosen", "rejected"] = ""

    @property
    def is_copy(self) -> bool:
        """Whether the row is a pair that stands there again, for its wide gap (`pair.repeat`)."""
        return re.search(r"#\d+$", self.pair_id) is not None


@dataclass(frozen=True)
class TailoredExample:
    """A question and a rationale from the aligned teacher, for the student's SFT."""

    task: str
    question: str
    target: str
    rationale: str
    answer: str
    #: The plain step-by-step prompt that the student is trained to answer.
    prompt: str
    #: The order that it came of, by its `order_id`; empty for those of the paper's own plan. That of a rewritten one is
    #: `rewritten_as` of the example that it was made from.
    origin: str = dataclasses.field(default="", metadata=LATER)

    def rewritten_as(self, operator: str) -> str:
        """The `order_id`, and so the `origin`, of what an operator makes of this example."""
        return f"{operator}/{content_id(self.task, self.question, self.rationale)}"


@dataclass(frozen=True)
class Result:
    """Accuracy of one student on one task's test questions, with a 95 % Wilson interval; all of them in 0..1."""

    task: str
    #: The task's label in the YAML, empty where it has none.
    category: str
    arm: str
    student: str
    shots: int
    n: int
    correct: int
    unparsed: int
    accuracy: float
    low: float
    high: float
    #: Of the student's fine-tuning, where there are several.
    seed: int | None = None


@dataclass(frozen=True)
class Dropped:
    """A row that went no further, and why."""

    stage: str
    reason: str
    task: str
    #: The id of what was dropped, or of the call that it came from.
    id: str
    #: Enough of the text to see what happened.
    text: str


Row = TypeVar("Row")


def write_rows(path: Path, rows: Iterable[object]) -> None:
    """Write data-class rows as JSONL, as they come; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _whole(path) as file:
        for row in rows:
            file.write(json.dumps(as_json(row), ensure_ascii=False) + "\n")


def as_json(row: Any) -> dict[str, Any]:
    """What of a row is written: all but those later fields that say nothing."""
    later = {f.name: f.default for f in dataclasses.fields(row) if f.metadata.get("later")}
    return {key: value for key, value in dataclasses.asdict(row).items() if key not in later or value != later[key]}


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a kill leaves the old content or the new, never a part."""
    with _whole(path) as file:
        file.write(text)


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    """Read JSONL rows of `row_type`; fields that it does not know are left out.

    Raises `DataError` with file and line for a missing file, a line that is not JSON or a missing field.
    """
    return list(iter_rows(path, row_type))


def iter_rows(path: Path, row_type: type[Row]) -> Iterator[Row]:
    """The same as `read_rows`, one row in memory at a time; errors come up on the way."""
    fields = dataclasses.fields(row_type)  # type: ignore[arg-type]
    required = {f.name for f in fields if f.default is dataclasses.MISSING}
    try:
        # Lines end at "\n" only; JSON leaves U+2028 and U+0085 in a string.
        file = path.open(encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"Can't read {path}: {error.strerror}.") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error}).") from error
            missing = required - values.keys()
            if missing:
                raise DataError(f"{path}, line {number}: no {', '.join(sorted(missing))}. Is it the file you mean?")
            yield row_type(**{f.name: values[f.name] for f in fields if f.name in values})


def split_lines(text: str) -> list[str]:
    """The lines of JSONL. `str.splitlines` would also cut at U+2028 and U+0085, which JSON leaves in a string."""
    return text.split("\n")


def content_id(*parts: str) -> str:
    """A short id that depends on the content alone, so that it is the same in every run."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:12]


def wilson(correct: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson score interval of `correct` out of `n` (means over seeds may be broken); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    centre = (correct + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(correct * (n - correct) / n + z * z / 4)
    # The ends are exact; computed, they would be off by a rounding error, on the wrong side of the share.
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == n else centre + half)
