"""Near duplicates: questions that share a run of 13 words with just one other, or most of their short runs with any.

They are counted and never dropped. In a task made from a template most questions have one, so a count says something
only beside what chance gives: the same count for questions of the task that nobody can have copied.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from arte_plugin.data.same_question import comparable
from arte_plugin.data.tasks import Task
from arte_plugin.show.tables import Lines
from arte_plugin.stages import STAGES

FILE = "near_duplicates.json"

#: Words in a row that two questions have in common by copying, in texts that are no template (Brown et al., 2020).
LONG_RUN = 13
#: The length of the runs whose sets are compared.
SHORT_RUN = 3
#: Jaccard's index from which two sets of short runs are near duplicates (Lee et al., 2022).
SIMILAR = 0.8

#: Times that two splits are dealt anew from their questions taken together, to see what chance gives.
_DEALS = 3
#: Pairs that are kept to be looked at, of each kind and task.
_SHOWN = 3


@dataclass(frozen=True)
class Near:
    """How many of one kind of a task's questions have a near duplicate in one of its splits."""

    task: str
    #: A split, `drafts`, or the arm whose tailored questions they are.
    questions: str
    #: `seed`, `validation` or `test`.
    split: str
    n: int
    found: int
    #: How many would be found by chance. Of two splits: when their questions are dealt anew. Of generated questions: at
    #: the rate of the task's own questions in its other splits.
    by_chance: float
    #: Some of those found, each with its near duplicate.
    shown: list[tuple[str, str]]


def near_splits(task: Task) -> list[Near]:
    """The splits of a task against one another."""
    texts = _texts(task)
    return [
        _near(task.name, later, split, texts[later], texts[split], _dealt_anew(task.name, texts[later], texts[split]))
        for i, split in enumerate(texts)
        for later in list(texts)[i + 1 :]
    ]


def near_generated(task: Task, what: str, questions: Sequence[str]) -> list[Near]:
    """Generated questions of a task, called `what`, against its splits."""
    texts = _texts(task)
    found = []
    for split, inside in texts.items():
        known = NearDuplicates(inside)
        others = [text for other, texts_ in texts.items() if other != split for text in texts_]
        rate = sum(known.of(text) is not None for text in others) / max(1, len(others))
        found.append(_near(task.name, what, split, questions, inside, rate * len(questions)))
    return found


def as_json(found: Sequence[Near]) -> str:
    """What is written to `near_duplicates.json`."""
    return json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False) + "\n"


def near_lines(folder: Path) -> Lines:
    """The table of a run folder: a line for each kind of questions, over all tasks; empty where none were found."""
    rows = _rows(folder)
    if not any(row.found for row in rows):
        return []
    splits = list(dict.fromkeys(row.split for row in rows))
    lines = [["near duplicates", "n", *(f"in {split}" for split in splits)]]
    for what, of in _kinds(rows).items():
        cells = [_cell([row for row in of if row.split == split]) for split in splits]
        lines.append([f"of {what}", str(_questions(of)), *cells])
    return lines


def none_found(folder: Path) -> str:
    """Says that a run folder has no near duplicates; empty where it has, and before any were counted."""
    rows = _rows(folder)
    if not rows or any(row.found for row in rows):
        return ""
    return f"near duplicates: none, of {sum(map(_questions, _kinds(rows).values())):,} questions"


def _rows(folder: Path) -> list[Near]:
    files = [file for stage in ("elicit", "regenerate") if (file := folder / STAGES[stage] / FILE).is_file()]
    return [Near(**row) for file in files for row in json.loads(file.read_text(encoding="utf-8"))]


def _kinds(rows: Sequence[Near]) -> dict[str, list[Near]]:
    return {
        what: [row for row in rows if row.questions == what] for what in dict.fromkeys(row.questions for row in rows)
    }


def _questions(of_kind: Sequence[Near]) -> int:
    """How many they are: each was held against several splits."""
    return sum(row.n for row in of_kind if row.split == of_kind[0].split)


def _cell(rows: Sequence[Near]) -> str:
    return f"{sum(r.found for r in rows)} (chance {sum(r.by_chance for r in rows):.1f})" if rows else ""


def _texts(task: Task) -> dict[str, list[str]]:
    return {split: [one.question for one in questions] for split, questions in task.splits().items()}


def _near(task: str, what: str, split: str, texts: Sequence[str], inside: Sequence[str], by_chance: float) -> Near:
    known = NearDuplicates(inside)
    pairs = [(text, twin) for text in texts if (twin := known.of(text)) is not None]
    return Near(task, what, split, len(texts), len(pairs), round(by_chance, 2), pairs[:_SHOWN])


def _dealt_anew(task: str, texts: Sequence[str], inside: Sequence[str]) -> float:
    together = [*texts, *inside]
    counts = []
    for deal in range(_DEALS):
        dealt = random.Random(f"{task}/near/{deal}").sample(together, len(together))
        known = NearDuplicates(dealt[len(texts) :])
        counts.append(sum(known.of(text) is not None for text in dealt[: len(texts)]))
    return fmean(counts)


class NearDuplicates:
    """Finds near duplicates of some questions, by an index.

    Time and memory grow with the length of the texts; where a few words make up all of them, time grows with their
    pairs, of which some thousand texts take seconds.
    """

    def __init__(self, questions: Iterable[str]):
        self._texts = list(questions)
        forms = [_words(text) for text in self._texts]
        long_runs = [frozenset(_runs(words, LONG_RUN)) for words in forms]
        # A run that two of them have in common is the task's wording, and nobody's copy.
        shared = Counter(run for runs in long_runs for run in runs)
        self._by_long_run = {run: i for i, runs in enumerate(long_runs) for run in runs if shared[run] == 1}
        self._sets = [_short_runs(words) for words in forms]
        self._common = Counter(run for runs in self._sets for run in runs)
        self._by_rare_run: dict[tuple[str, ...], list[int]] = {}
        for i, runs in enumerate(self._sets):
            for run in self._rarest(runs):
                self._by_rare_run.setdefault(run, []).append(i)

    def of(self, question: str) -> str | None:
        """One that is nearly the same as `question`, or the same; None if there is none."""
        words = _words(question)
        for run in _runs(words, LONG_RUN):
            if (found := self._by_long_run.get(run)) is not None:
                return self._texts[found]
        runs = _short_runs(words)
        seen: set[int] = set()
        for run in self._rarest(runs):
            for i in self._by_rare_run.get(run, ()):
                if i not in seen and _similar(runs, self._sets[i]):
                    return self._texts[i]
                seen.add(i)
        return None

    def _rarest(self, runs: frozenset[tuple[str, ...]]) -> Sequence[tuple[str, ...]]:
        """So many of the rarest runs that two similar sets must share one of them (Bayardo et al., 2007)."""
        ordered = sorted(runs, key=lambda run: (self._common[run], run))
        return ordered[: len(runs) - math.ceil(SIMILAR * len(runs)) + 1]


def _similar(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    fewer, more = sorted((len(one), len(other)))
    if fewer < SIMILAR * more:
        return False
    common = len(one & other)
    return common >= SIMILAR * (fewer + more - common)


def _words(question: str) -> list[str]:
    return comparable(question).split()


def _runs(words: Sequence[str], length: int) -> Iterable[tuple[str, ...]]:
    return (tuple(words[i : i + length]) for i in range(len(words) - length + 1))


def _short_runs(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    # With marks at both ends a short question has runs too, and its first and last words count as much as the others.
    return frozenset(_runs(["", *words, ""], min(SHORT_RUN, len(words) + 2)))
