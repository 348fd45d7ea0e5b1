"""Write `docs/answers.md`, how often answers are read right; with `--check`, fail when it is stale.

python -m benchmarks.answers.make_page [--check | --counts]

`--counts` prints the counts of the responses instead, in the form in which `benchmarks/answers/before.json` keeps them.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from arte_plugin.config.tasks import AnswerType
from arte_plugin.language.answers import extract
from arte_plugin.rows import split_lines, wilson
from arte_plugin.show.tables import markdown_table
from arte_plugin.stages.readable import Readings
from docs.generated import DOCS, write_or_check

DATA = Path(__file__).parent
KINDS = get_args(AnswerType)
HALVES = ("first", "second")

HEAD = """\
# How well answers are read

Whether a response is correct depends on reading the answer out of it (`arte_plugin/language/answers.py`). This page
says how often that goes right. It is written from [benchmarks/answers](../benchmarks/answers/README.md) by its
`make_page.py` (`make docs`), and a test fails when it is stale.

## Real responses

{n} responses of two small models to our own questions, {labelled} of them with an answer and {unlabelled} without one.
They were labelled by hand, before anything was compared; the rules of labelling stand beside them. *Precision*: of the
responses from which an answer is read, the share from which the labelled one is read; an answer read from a response
that gives none counts against it. *Recall*: of the responses with an answer, the share from which it is read. With 95 %
Wilson intervals.

An answer that can't be read counts as *unparsed* and is shown as such; one that is read wrong is not noticed. So where
the two are at odds, the rules go for precision.
"""

HALVES_TEXT = """\

The rules were mended with the differences in the first half before our eyes, so its figures are optimistic. The second
half is held out: its differences were not looked at until the rules stood as they are now, though its responses had
been read to label them. It comes from the same two models and the same kinds of question, and they repeat themselves;
other models may do worse. *Before* is what the rules of commit fb30ca4 made of the same responses.
"""

FORMS_TEXT = """\

## Mentions of the tags, and other forms

What a reader sees at once and rules trip over, written down by hand
([forms.jsonl](../benchmarks/answers/forms.jsonl)): models that repeat the request for the tags, letters that are parts
of a name, signs, boxes. {right} of {n} are read as meant, {before} of them under the rules of commit f7466a4. Of the
{labelled} real responses above, {changed} are read otherwise than by those rules: so rare are such forms where two
small models answer short prompts. Rules and forms were made for each other here too.

"""

AGAIN_TEXT = """\

## Form and content, and asking again

A draft's score is P(readable) × P(right when readable): the first factor is form, the second content. Every run shows
both, by task and student, in `03-probe/readable.md`, and in `scores.jsonl` for each draft; replies without an answer
are either cut off at `probe.max_new_tokens` or ended without one. With `probe.ask_again` such a reply is continued with
`So the answer is <ans>`, and that is read.

Below, the probes of one run of the quickstart's YAML ({probes} of SmolLM2-135M-Instruct, at most 64 tokens each), off
and on, with 95 % Wilson intervals; they take the probes as independent, which those of one draft are not. By
`benchmarks/answers/ask_again.py`. *One answer to all* is not shown there, for that is a matter of the task: it is in
the run's own table. Asking again took {calls} more calls and {tokens} more tokens.

"""

AGAIN_MORE = """\

Form is gone from the score where everything can be read: what is left is content, and the replies that are asked
again bring content of their own, right or wrong. It is off by default, as in the paper, since scores of one setting
can't be compared with those of the other, and one student in one small run is no ground for another default. Where
`readable.md` shows many unreadable replies, it is the first thing to try: a student that does not copy the form is
taught the form by the fine-tuning in any case.
"""

DIFFERENCES_TEXT = """\

## Where reader and label differ

Every response that is read otherwise than it was labelled. *None* means that no answer was read, or that the response
gives none. Long responses are cut in the middle.

Most are answers that are not read, of two kinds: an option named by its words alone, for the reader does not see the
question; and an answer in prose, without tags and without "the answer is", in which a number or a truth value could as
well be a step on the way.

"""

TARGETS_TEXT = """\

## Targets in every form

Every target of Big-Bench-Hard and GSM8K that we have a copy of, in all forms of `benchmarks/answers/answer_forms.py`:
letters with and without brackets and the option's words, numbers with signs, commas and units, words in quotes; each in
tags that are closed, open, repeated or half-closed, in a sentence, alone, denied, as one of two, and behind a question
that is repeated. Most forms must be read as the target, the others must not be read at all. Counted by
`python benchmarks/answers/check_targets.py --data DIR`; the data is not in this repository.

Forms and rules were made for each other, so this is no estimate of how models fare: it shows that no target of these
files, and no question, trips the rules up. *Before* are the mismatches under the rules of commit fb30ca4; many come
from a few forms (an answer denied, a letter in brackets beside one without, the tags named in prose).

"""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Counts:
    """What came of some responses."""

    #: Responses in which somebody found an answer.
    labelled: int
    #: Responses from which an answer is read, and those from which it is the labelled one.
    read: int
    right: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.labelled + other.labelled, self.read + other.read, self.right + other.right)


def main() -> int:
    """Write or check the page."""
    rows = [json.loads(line) for line in split_lines((DATA / "labelled.jsonl").read_text(encoding="utf-8")) if line]
    now = {half: {kind: count(_part(rows, half, kind)) for kind in KINDS} for half in HALVES}
    if "--counts" in sys.argv[1:]:
        print(json.dumps({half: {kind: asdict(one) for kind, one in of.items()} for half, of in now.items()}, indent=1))
        return 0
    saved = json.loads((DATA / "before.json").read_text(encoding="utf-8"))
    before = {half: {kind: Counts(**one) for kind, one in of.items()} for half, of in saved["responses"].items()}
    labelled = sum(row["label"] is not None for row in rows)
    page = HEAD.format(n=len(rows), labelled=labelled, unlabelled=len(rows) - labelled)
    page += "\n" + markdown_table(_figures(rows, now)) + "\n"
    page += HALVES_TEXT + "\n" + markdown_table(_by_half(rows, before, now)) + "\n"
    page += _forms(rows)
    page += _again()
    page += DIFFERENCES_TEXT + markdown_table(_differences(rows)) + "\n"
    page += TARGETS_TEXT + markdown_table(_targets(saved["mismatches"])) + "\n"
    return write_or_check(DOCS / "answers.md", page)


def count(rows: Iterable[Row]) -> Counts:
    """What came of these responses."""
    found = [(extract(row["response"], row["kind"]), row["label"]) for row in rows]
    return Counts(
        labelled=sum(label is not None for _, label in found),
        read=sum(answer is not None for answer, _ in found),
        right=sum(answer is not None and answer == label for answer, label in found),
    )


def _part(rows: Sequence[Row], half: str, kind: str) -> list[Row]:
    """One half of a type's responses: they take turns, so that both halves have as much of every model and prompt."""
    return [row for row in rows if row["kind"] == kind][HALVES.index(half) :: 2]


def _figures(rows: Sequence[Row], now: Mapping[str, Mapping[str, Counts]]) -> list[list[str]]:
    lines = [["answer", "responses", "with an answer", "read", "precision", "recall"]]
    total = Counts(0, 0, 0)
    for kind in KINDS:
        one = now["first"][kind] + now["second"][kind]
        total += one
        lines.append([kind, str(sum(row["kind"] == kind for row in rows)), *_cells(one)])
    return [*lines, ["all", str(len(rows)), *_cells(total)]]


def _cells(one: Counts) -> list[str]:
    return [str(one.labelled), str(one.read), share(one.right, one.read), share(one.right, one.labelled)]


def _by_half(
    rows: Sequence[Row], before: Mapping[str, Mapping[str, Counts]], now: Mapping[str, Mapping[str, Counts]]
) -> list[list[str]]:
    lines = [["half", "answer", "responses", "precision before", "now", "recall before", "now"]]
    for half in HALVES:
        for kind in (*KINDS, "all"):
            kinds = KINDS if kind == "all" else (kind,)
            then, today = (sum((of[half][one] for one in kinds), Counts(0, 0, 0)) for of in (before, now))
            lines.append(
                [
                    half,
                    kind,
                    str(sum(len(_part(rows, half, one)) for one in kinds)),
                    *(share(one.right, one.read) for one in (then, today)),
                    *(share(one.right, one.labelled) for one in (then, today)),
                ]
            )
    return lines


def share(part: int, whole: int) -> str:
    """`5 of 8, 62.5 % (30.6 to 86.3)`."""
    if not whole:
        return "0 of 0"
    low, high = wilson(part, whole)
    return f"{part} of {whole}, {100 * part / whole:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _differences(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["answer", "half", "read", "label", "response"]]
    for kind in KINDS:
        for i, row in enumerate(row for row in rows if row["kind"] == kind):
            if (answer := extract(row["response"], kind)) != row["label"]:
                lines.append([kind, HALVES[i % 2], _code(answer), _code(row["label"]), _code(row["response"].strip())])
    return lines


def _code(text: str | None) -> str:
    if text is None:
        return "none"
    text = text if len(text) <= 120 else f"{text[:55]} … {text[-55:]}"
    return "`" + text.replace("\n", "⏎").replace("|", "\\|").replace("`", "'") + "`"


def _forms(labelled: Sequence[Row]) -> str:
    past = json.loads((DATA / "readings.json").read_text(encoding="utf-8"))
    changed = sum(extract(row["response"], row["kind"]) != one for row, one in zip(labelled, past, strict=True))
    rows = [json.loads(line) for line in split_lines((DATA / "forms.jsonl").read_text(encoding="utf-8")) if line]
    lines = [["answer", "response", "meant", "read", "before"]]
    for row in rows:
        read = extract(row["response"], row["kind"])
        lines.append([row["kind"], *map(_code, (row["response"], row["label"], read, row["before"]))])
    right, before = (sum(line[place] == line[2] for line in lines[1:]) for place in (3, 4))
    page = FORMS_TEXT.format(n=len(rows), right=right, before=before, labelled=len(labelled), changed=changed or "none")
    return page + markdown_table(lines) + "\n"


def _again() -> str:
    off, on = json.loads((DATA / "ask_again.json").read_text(encoding="utf-8"))
    lines = [["task", "ask again", "probes", "readable", "right when readable", "s_r", "cut off", "no answer", "asked"]]
    for task in (key for key in off if key not in ("ask_again", "requests", "new_tokens")):
        for name, made in (("off", off), ("on", on)):
            one = Readings(**made[task])
            figures = [
                share(one.readable, one.n), share(one.correct, one.readable), share(one.correct, one.n),
                str(one.cut_off), str(one.no_answer), str(one.asked_again),
            ]  # fmt: skip
            lines.append([task, name, str(one.n), *figures])
    head = AGAIN_TEXT.format(
        probes=off["requests"], calls=on["requests"] - off["requests"], tokens=on["new_tokens"] - off["new_tokens"]
    )
    return head + markdown_table(lines) + "\n" + AGAIN_MORE


def _targets(before: Mapping[str, int]) -> list[list[str]]:
    counts = json.loads((DATA / "targets.json").read_text(encoding="utf-8"))
    lines = [["file", "answer", "questions", "forms", "mismatches", "before"]]
    lines += [[*map(str, row.values()), str(before[row["file"]])] for row in counts]
    totals = [sum(row[key] for row in counts) for key in ("questions", "forms", "mismatches")]
    return [*lines, ["all", "", *map(str, totals), str(sum(before.values()))]]


if __name__ == "__main__":
    sys.exit(main())
