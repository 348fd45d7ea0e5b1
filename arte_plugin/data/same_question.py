"""When two questions are one: the form in which questions are compared for duplicates, leaks and repeats.

White space, case, sentence punctuation and quotation marks say nothing about which question is asked; brackets and
operators do. Letters and digits alone would make `2 - 1` and `2 + 1` one question, or any two of dyck_languages, so a
question is taken apart into words, numbers and single signs, and only signs that carry no meaning are left out.
"""

import re
import unicodedata

from arte_plugin.config.tasks import AnswerType
from arte_plugin.language import answers
from arte_plugin.rows import Question

_SAME_SIGN = str.maketrans({"−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "*", "÷": "/"})
_NOTHING = re.compile("[\"'`´‘’‚“”„«»\u00ad\u200b-\u200f\u2060\ufeff]")
#: In a ratio or a time, and behind what has a factorial, these are no sentence punctuation.
_RATIO, _FACTORIAL = re.compile(r"(?<=\d)\s*:(?=\s*\d)"), re.compile(r"(?<=[\d)])!")
#: Nor are they in `!=` and in front of what is negated, nor is the mark of a derivative a quotation mark.
_NOT, _PRIME = re.compile(r"!(?==|!*[(\[{])|(?<!\w)!(?=!*\w)"), re.compile(r"(?<=[^\W\d_])['’′]+(?=\()")
_CLAUSE = re.compile(r"[.,;:!?…¿¡]")
_PART = re.compile(r"(?<![\w.])\.\d+(?:\.\d+)*|\d+(?:\.\d+)+|[^\W\d]+\d*|\d+|[^\w\s]")
_OPTION = re.compile(r"(?:^|(?<=\s))\(([A-Z])\)|^([A-Z])[.)](?=\s)", re.MULTILINE)


def strictly(question: str) -> str:
    """The question but for case and white space: what its id is made from."""
    return " ".join(question.casefold().split())


def comparable(question: str) -> str:
    """The form in which two questions are compared: equal forms are one question, whatever the order of its options.

    >>> comparable("not ( True ) and ( True ) is") == comparable("Not (True) and (True) is?")
    True
    >>> comparable("2 + 2") == comparable("2+2?"), comparable("2 - 2") == comparable("2 + 2")
    (True, False)
    """
    stem, options = split_options(question)
    return "\n".join([" ".join(parts(stem)), *sorted(" ".join(parts(text)) for text in options.values())])


def parts(text: str) -> list[str]:
    """The words, numbers and signs of a text that count; all of them where nothing else would be left."""
    whole = unicodedata.normalize("NFC", text).translate(_SAME_SIGN).casefold()
    text = _NOTHING.sub("", _PRIME.sub(lambda marks: "′" * len(marks[0]), whole))
    text = _NOT.sub("❗", _FACTORIAL.sub("❗", _RATIO.sub("∶", text)))
    return [part for part in _PART.findall(text) if not _CLAUSE.fullmatch(part)] or strictly(whole).split()


def split_options(question: str) -> tuple[str, dict[str, str]]:
    """A question without its options, and these by letter: `(A) …`, `A. …` or `A) …`, from A on, a line each or in one.

    What stands behind the last option's line belongs to the question. Without at least (A) and (B) there are none.
    """
    found = [(one[1] or one[2], one.start(), one.end()) for one in _OPTION.finditer(question)]
    begun = [i for i, (letter, _, _) in enumerate(found) if letter == "A"]
    for first in reversed(begun):
        run = found[first:]
        length = next((i for i, (letter, _, _) in enumerate(run) if letter != chr(ord("A") + i)), len(run))
        if length < 2:
            continue
        run = run[:length]
        behind = question.find("\n", run[-1][2])
        end = len(question) if behind < 0 else behind
        ends = [start for _, start, _ in run[1:]] + [end]
        options = {letter: question[at:till].strip() for (letter, _, at), till in zip(run, ends, strict=True)}
        return (question[: run[0][1]] + question[end:].lstrip()).strip(), options
    return question, {}


def comparable_answer(question: Question, kind: AnswerType) -> str:
    """A question's answer where options may stand in another order: the text of the option, if it is one."""
    answer = answers.normalise(question.target, kind)
    option = split_options(question.question)[1].get((answer or "").strip("()")) if kind == "choice" else None
    return " ".join(parts(option)) if option else answer or question.target


def is_same(one: Question, other: Question, kind: AnswerType) -> bool:
    """Whether two labelled questions with one comparable form are the same question.

    They are if they have the same answer, be it under another letter, or the same text to the letter. If not, the signs
    in which they differ have a meaning after all, as they have in a task about punctuation.
    """
    if strictly(one.question) == strictly(other.question):
        return True
    if kind == "choice":
        return comparable_answer(one, kind) == comparable_answer(other, kind)
    return answers.same(one.target, other.target, kind)


def targets_an_option(question: str, target: str, kind: AnswerType) -> bool:
    """Whether the answer of a question with lettered options is one of them; true where none can be read."""
    options = split_options(question)[1] if kind == "choice" else {}
    return not options or (answers.normalise(target, kind) or "").strip("()") in options
