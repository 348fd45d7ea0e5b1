"""Answers as models write them: found in a response, brought to one form, and compared with the target.

An answer is `correct`, `wrong` or `unparsed`; what can't be read is never taken for a wrong answer.
"""

import re
from decimal import Decimal, InvalidOperation

from arte_plugin import prompts
from arte_plugin.args import AnswerType
from arte_plugin.rows import Outcome

_CLOSED = re.compile(r"<ans>(.*?)</ans>", re.IGNORECASE | re.DOTALL)
_AT_THE_END = re.compile(r"<ans>((?:(?!</?ans>).)*)</ans>$", re.IGNORECASE | re.DOTALL)
_OPENED = re.compile(r"<ans>[ \t]*\n?([^\n<]*)", re.IGNORECASE)
_STATED = re.compile(r"\banswer(?:\s+is|\s*:)\s*:?\s*([^\n<]+)", re.IGNORECASE)

_LETTER = re.compile(r"\(([A-Za-z])\)|(?<![\w'])([A-Z])(?![\w'])")
_LONE_LETTER = re.compile(r"(?:option|choice)?\s*\(?([A-Za-z])\s*[).:]?", re.IGNORECASE)
_NUMBER = re.compile(r"[-+−]?\s?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)")
_DENIED = re.compile(r"\bnot\s+(?:true|false|yes|no)\b", re.IGNORECASE)
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}


def extract(response: str, kind: AnswerType) -> str | None:
    """The answer that a response gives, in the form of `normalise`, or None if there is none that can be read.

    Looked for behind nothing but the response itself (a question restated by the model ends it), in this order: the
    last closed tag with a readable answer, a tag that was never closed, a plain statement ("the answer is …"), a
    response of a single word.
    """
    response = response.split(prompts.NEXT_QUESTION)[0]
    for found in reversed(_CLOSED.findall(response)):
        if (answer := normalise(found, kind)) is not None:
            return answer
    rest = _CLOSED.sub("", response)
    for pattern in (_OPENED, _STATED):
        for found in reversed(pattern.findall(rest)):
            if (answer := normalise(found, kind)) is not None:
                return answer
    # The whole response: what stands beside a tag that holds nothing readable was not given as the answer.
    word = response.strip()
    return normalise(word, kind) if re.fullmatch(r"[^\s<>]+", word) else None


def tagged(rationale: str, kind: AnswerType) -> str | None:
    """The answer of a rationale that ends in a tag with a readable answer, as training data must; else None."""
    found = _AT_THE_END.search(rationale)
    return normalise(found[1], kind) if found else None


def normalise(text: str, kind: AnswerType) -> str | None:
    """An answer in one form: `(A)`, `True`, `No`, `1234.5`, or plain lower-case text; None if it is no such answer."""
    text = text.strip().strip("*`").strip()
    if kind == "choice":
        return _choice(text)
    if kind == "boolean":
        if _DENIED.search(text):
            return None
        words = {word for word in re.findall(r"[a-z]+", text.lower()) if word in _TRUTH}
        return words.pop().capitalize() if len(words) == 1 else None
    if kind == "number":
        return _number(text)
    plain = " ".join(text.split()).strip("\"'“”").rstrip(".").strip().casefold()
    return plain or None


def judge(response: str, target: str, kind: AnswerType) -> tuple[str, Outcome]:
    """The answer in `response` (empty if unparsed), and whether it is the target."""
    answer = extract(response, kind)
    if answer is None:
        return "", "unparsed"
    return answer, "correct" if same(answer, target, kind) else "wrong"


def same(one: str, other: str, kind: AnswerType) -> bool:
    """Whether two answers are one: True and Yes are, and False and No, for a question asks with one pair or the other.

    An answer that can't be read is the same as no other.
    """
    first, second = normalise(one, kind), normalise(other, kind)
    if kind == "boolean" and first and second:
        return _TRUTH[first.lower()] == _TRUTH[second.lower()]
    return first is not None and first == second


def _choice(text: str) -> str | None:
    if alone := _LONE_LETTER.fullmatch(text):
        return f"({alone[1].upper()})"
    letters = {(bracketed or bare).upper() for bracketed, bare in _LETTER.findall(text)}
    if bracketed := {letter.upper() for letter in re.findall(r"\(([A-Za-z])\)", text)}:
        letters = bracketed
    elif leading := re.match(r"(?:option\s+)?([A-Z])[.):]\s", text):
        letters = {leading[1]}
    return f"({letters.pop()})" if len(letters) == 1 else None


def _number(text: str) -> str | None:
    numbers = set()
    for found in _NUMBER.findall(text):
        try:
            numbers.add(Decimal(re.sub(r"[$€£,\s+]", "", found).replace("−", "-")))
        except InvalidOperation:
            continue
    if len(numbers) != 1:
        return None
    # No arithmetic: Decimal's rounds, and fails on a number of 29 digits, which a model may well write.
    plain = format(numbers.pop() or Decimal(0), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
