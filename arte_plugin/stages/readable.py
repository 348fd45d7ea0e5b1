"""Form and content of a student's replies apart: how many can be read, and how many of those are right.

s_r = P(readable) × P(right when readable). A student that does not copy the form, or is cut off, has a low score
whatever it knows; this is where one sees which it is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from arte_plugin.errors import StageError
from arte_plugin.rows import Outcome, PreferenceQuestion, Probe, Response, wilson
from arte_plugin.show.tables import Lines

#: A run is stopped after so many of a task's probes, if hardly any can be read: this share, and not fewer than this.
SAMPLE, LEAST = 0.05, 100

#: Characters of a reply that are shown.
SHOWN = 300


@dataclass
class Readings:
    """How some replies came out."""

    correct: int = 0
    wrong: int = 0
    #: Unparsed: those that ran out of tokens, and the others.
    cut_off: int = 0
    no_answer: int = 0
    asked_again: int = 0

    def add(self, row: Probe | Response) -> None:
        """Count a row; one of an early version does not tell how it ended, and counts as without an answer."""
        if row.outcome == "correct":
            self.correct += 1
        elif row.outcome == "wrong":
            self.wrong += 1
        elif row.finish == "length":
            self.cut_off += 1
        else:
            self.no_answer += 1
        self.asked_again += row.asked_again

    @classmethod
    def of(cls, rows: Iterable[Probe | Response]) -> "Readings":
        """Those of `rows`."""
        made = cls()
        for row in rows:
            made.add(row)
        return made

    @property
    def readable(self) -> int:
        """Replies with an answer."""
        return self.correct + self.wrong

    @property
    def unparsed(self) -> int:
        """Replies without one."""
        return self.cut_off + self.no_answer

    @property
    def n(self) -> int:
        """All replies."""
        return self.readable + self.unparsed

    def outcomes(self) -> dict[Outcome, int]:
        """How many of each outcome."""
        return {"correct": self.correct, "wrong": self.wrong, "unparsed": self.unparsed}

    def note(self) -> str:
        """In one line: `43.1 % correct = 78.5 % readable × 54.9 % of these; unparsed: 13 cut off, 49 no answer`."""
        said = f"{_percent(self.correct, self.n)} correct"
        if self.readable < self.n:
            said += f" = {_percent(self.readable, self.n)} readable"
            said += f" × {_percent(self.correct, self.readable)} of these" if self.readable else ""
        parts = {"cut off": self.cut_off, "no answer": self.no_answer}
        if lost := ", ".join(f"{count} {what}" for what, count in parts.items() if count):
            said += f"; unparsed: {lost}"
        return said + (f"; {self.asked_again} asked again" if self.asked_again else "")


def sample_size(probes: int) -> int:
    """After how many of a task's probes it is looked whether they can be read; 0 for too few to tell."""
    return max(LEAST, math.ceil(SAMPLE * probes)) if probes >= LEAST else 0


def refuse_unreadable(rows: Sequence[Probe], least: float, asks_again: bool) -> None:
    """Raise `StageError`, with what to do, if less than the share `least` of the first probes can be read."""
    readings = Readings.of(rows)
    if not rows or readings.readable >= least * readings.n:
        return
    first = next(row for row in rows if row.outcome == "unparsed")
    ways = []
    if 2 * readings.cut_off > readings.unparsed:
        ways.append("raise `probe.max_new_tokens`, for most were cut off")
    if not asks_again:
        ways.append("set `probe.ask_again: true`, which asks for the answer behind such a reply")
    if "<think>" in first.response:
        ways.append("switch its thoughts off (`student.chat_template_kwargs`)")
    ways.append("look at `student.prompt_style` (a base model should be asked `plain`), or take a larger student")
    # Without what a terminal would obey.
    shown = repr(first.response[:SHOWN]) + ("…" if len(first.response) > SHOWN else "")
    raise StageError(
        f"Task {first.task}: of the first {readings.n} probes of {first.student}, {readings.unparsed} have no answer "
        f"that can be read ({readings.cut_off} cut off, {readings.no_answer} without an answer), so that scores would "
        f"say next to nothing. Ways on: {'; '.join(ways)}; or set `probe.min_readable: 0` to go on as it is. What was "
        f"asked is kept. A reply:\n{shown}"
    )


def readable_lines(readings: Mapping[tuple[str, str], Readings], preference_set: Sequence[PreferenceQuestion]) -> Lines:
    """The table by task and student, with 95 % Wilson intervals; `readings` by these two.

    Beside what is right stands what somebody gets who always gives the preference set's most frequent answer.
    """
    lines: Lines = [
        ["task", "student", "probes", "readable", "right when readable", "s_r", "one answer to all", "cut off",
         "no answer", "asked again"]
    ]  # fmt: skip
    for (task, student), one in readings.items():
        targets = [question.target for question in preference_set if question.task == task]
        usual = max((targets.count(target) for target in set(targets)), default=0)
        lines.append([
            task, student, str(one.n), _share(one.readable, one.n), _share(one.correct, one.readable),
            _share(one.correct, one.n), _percent(usual, len(targets)), str(one.cut_off), str(one.no_answer),
            str(one.asked_again),
        ])  # fmt: skip
    return lines


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _share(part: int, whole: int) -> str:
    low, high = wilson(part, whole)
    return f"{_percent(part, whole)} ({100 * low:.1f} to {100 * high:.1f}), n={whole}" if whole else ""
