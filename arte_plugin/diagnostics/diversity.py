"""Does the teacher still write different things? What it wrote for the student beside what it wrote before.

Lack of diversity is what brings teacher hacking about ("On Teacher Hacking", 2502.02671): a student that
learns from few like texts learns the teacher's ways and not the task. No figure here says anything alone: in a task
made from a template all questions are alike. So beside each stands that of as many drafts (or seed questions), and what
the difference is when both are thrown together and dealt anew.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.same_question import parts
from arte_plugin.data.tasks import Task
from arte_plugin.diagnostics.cells import p_value
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking, Evidence, Lines
from arte_plugin.rows import Result

if TYPE_CHECKING:
    import numpy as np

#: Times that both are dealt anew, so that the least p is 0.005.
DEALS = 199
#: Jaccard's index of two texts' runs of three words from which they are near duplicates (Lee et al., 2022).
SIMILAR = 0.8
#: Fewer texts than these on a side say nothing.
FEWEST = 3


class DiversitySettings(Block):
    """What is held against what."""

    against: Literal["drafts", "seeds"] = Field(
        "drafts",
        description="Beside what an arm's texts are held: the `drafts` that the teacher wrote before its alignment, "
        "one of each question, or the task's own `seeds`, which have no rationales.",
    )
    words: int = Field(2, ge=1, le=5, description="Words of a run, for the share of distinct runs (distinct-n).")
    texts: int = Field(
        150, ge=10, description="Texts of a side at most, drawn by the run's seed: time grows in squares."
    )


@dataclass(frozen=True)
class Compared:
    """A measure of an arm's texts, of as many others, and what dealing both anew gives for the difference."""

    here: float
    there: float
    low: float
    high: float
    p: float


class Diversity:
    """Distinct-n, near duplicates, likeness of the nearest neighbour, and entropy of targets."""

    Settings: ClassVar[type[Block]] = DiversitySettings
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing"
    title: ClassVar[str] = "Diversity of what the students learn from"

    def __init__(self, settings: DiversitySettings):
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """It asks nobody."""
        return ()

    def table(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], results: Sequence[Result], asking: Asking
    ) -> Lines:
        """A line for each task, arm, kind of text and measure; `n` texts of each side were compared."""
        lines = [
            ["task", "arm", "of", "n", "measure", "here", f"as many {self.settings.against}", "difference",
             "95 % when dealt anew", "p"]
        ]  # fmt: skip
        for task in tasks:
            known = evidence[task.name]
            for arm, examples in known.examples.items():
                sides = {
                    "questions": ([(one.question, one.target) for one in examples], self._questions(task, known)),
                    "rationales": ([(one.rationale, "") for one in examples], self._rationales(known, asking)),
                }
                for what, (here, there) in sides.items():
                    rng = asking.rng("diversity", task.name, arm, what)
                    lines += [[task.name, arm, what, *cells] for cells in self._lines(here, there, what, rng)]
        return lines

    def _questions(self, task: Task, known: Evidence) -> list[tuple[str, str]]:
        if self.settings.against == "seeds":
            return [(one.question, one.target) for one in task.seeds]
        return list({one.question_id: (one.question, one.target) for one in known.drafts}.values())

    def _rationales(self, known: Evidence, asking: Asking) -> list[tuple[str, str]]:
        if self.settings.against == "seeds":
            return []
        # One of each question: several of one question are alike, and an arm has one.
        of_question: dict[str, list[str]] = {}
        for one in known.drafts:
            of_question.setdefault(one.question_id, []).append(one.rationale)
        return [(asking.rng("diversity", name).choice(written), "") for name, written in of_question.items()]

    def _lines(
        self, here: Sequence[tuple[str, str]], there: Sequence[tuple[str, str]], what: str, rng: random.Random
    ) -> list[list[str]]:
        n = min(len(here), len(there), self.settings.texts)
        if n < FEWEST:
            too_few = f"too few to compare: {len(here)} and {len(there)}"
            return [[str(n), too_few, "-", "-", "", "", ""]] if there else []
        mine, theirs = rng.sample(list(here), n), rng.sample(list(there), n)
        found = compared([text for text, _ in mine], [text for text, _ in theirs], self.settings.words, rng)
        if what == "questions":
            found["entropy of targets, bits"] = entropies([one for _, one in mine], [one for _, one in theirs], rng)
        return [
            [
                str(n), measure, f"{one.here:.2f}", f"{one.there:.2f}", f"{one.here - one.there:+.2f}",
                f"{one.low:+.2f} to {one.high:+.2f}", p_value(one.p),
            ]
            for measure, one in found.items()
        ]  # fmt: skip


def compared(here: Sequence[str], there: Sequence[str], words: int, rng: random.Random) -> dict[str, Compared]:
    """The measures of two equally many texts, by name.

    `distinct-n` is the share of different runs of `words` words among all runs (Li et al., 2016). A text's nearest
    neighbour is the one of its own side that shares most of its runs of three words (Jaccard): `likeness` is the mean
    over texts, 0 where none shares anything with another and 1 where all are the same; `near duplicates` the share of
    texts whose neighbour is at least `SIMILAR`.
    """
    texts = [parts(text) for text in (*here, *there)]
    likeness = _likeness(texts)
    measures: dict[str, Callable[[np.ndarray], float]] = {
        f"distinct-{words}": _distinct(texts, words),
        "near duplicates": lambda rows: float((_nearest(likeness, rows) >= SIMILAR).mean()),
        "likeness": lambda rows: float(_nearest(likeness, rows).mean()),
    }
    return {name: _dealt(measure, len(here), rng) for name, measure in measures.items()}


def entropies(here: Sequence[str], there: Sequence[str], rng: random.Random) -> Compared:
    """Entropy in bits of two equally many targets: 0 where all are the same."""
    return _dealt(partial(_entropy, [*here, *there]), len(here), rng)


def _dealt(measure: "Callable[[np.ndarray], float]", n: int, rng: random.Random) -> Compared:
    """A measure of rows 0 to n and of rows n to 2 n, and its difference when all are dealt to two sides anew."""
    import numpy as np

    rows = np.arange(2 * n)
    here, there = measure(rows[:n]), measure(rows[n:])
    dealer = np.random.default_rng(rng.getrandbits(32))
    dealt = []
    for _ in range(DEALS):
        order = dealer.permutation(rows)
        dealt.append(measure(order[:n]) - measure(order[n:]))
    low, high = np.quantile(dealt, [0.025, 0.975])
    as_large = 1 + sum(abs(one) >= abs(here - there) - 1e-9 for one in dealt)
    return Compared(here, there, float(low), float(high), as_large / (DEALS + 1))


def _distinct(texts: Sequence[Sequence[str]], words: int) -> "Callable[[np.ndarray], float]":
    import numpy as np

    numbers: dict[tuple[str, ...], int] = {}
    runs = [
        np.array([numbers.setdefault(tuple(text[i : i + words]), len(numbers)) for i in range(len(text) - words + 1)])
        for text in texts
    ]

    def measure(rows: np.ndarray) -> float:
        of_rows = np.concatenate([runs[row] for row in rows])
        return len(np.unique(of_rows)) / len(of_rows) if len(of_rows) else 1.0

    return measure


def _likeness(texts: Sequence[Sequence[str]]) -> "np.ndarray":
    """Jaccard's index of each two texts' runs of three words; both ends count as words."""
    import numpy as np

    runs = []
    for text in texts:
        closed = ["", *text, ""]
        runs.append({tuple(closed[i : i + 3]) for i in range(max(1, len(closed) - 2))})
    found = np.zeros((len(texts), len(texts)))
    for i, one in enumerate(runs):
        for k in range(i):
            common = len(one & runs[k])
            found[i, k] = found[k, i] = common / (len(one) + len(runs[k]) - common)
    return found


def _nearest(likeness: "np.ndarray", rows: "np.ndarray") -> "np.ndarray":
    of_rows = likeness[rows][:, rows].copy()
    of_rows[range(len(rows)), range(len(rows))] = -1
    return of_rows.max(axis=1)


def _entropy(values: Sequence[str], rows: "np.ndarray") -> float:
    counts = Counter(values[row] for row in rows)
    return -sum(n / len(rows) * math.log2(n / len(rows)) for n in counts.values()) + 0.0
