"""Answers as models write them: found in a response, brought to one form, and compared with the target.

An answer is `correct`, `wrong` or `unparsed`; what can't be read is never taken for a wrong answer.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from itertools import groupby, zip_longest

from arte_plugin.language import prompts
from arte_plugin.language.answer_tags import LINE, Tag, find_tags, is_mention, mention_begins
from arte_plugin.language.answer_types import AnswerType
from arte_plugin.rows import Outcome

#: Raised with every change of what is read as an answer: that decides how replies are judged, and where they end.
VERSION = 4

#: "The answer is", "**Answer**:"
_STATING = re.compile(r"\banswer\**(?:\s+is\b|\s*:)\**\s*:?\s*", re.IGNORECASE)
_STATED = re.compile(LINE, re.IGNORECASE)
_BOXED = re.compile(r"\\boxed[ \t]*\{((?:[^{}]|\{[^{}]*\})*)\}")
_SENTENCE_END = re.compile(r"[.!?](?=\s)")
_NEXT_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_IN_BOX = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
#: In front of the answer in the last line of a worked solution of GSM8K.
_LAST_LINE = "####"

#: A letter in brackets, but not the plural of "person(s)"; a letter and what closes it, in front.
_MARKED = re.compile(r"\(([A-Z])\)|(?<![^\W\d_])\(([a-z])\)|^(?:(?i:option)\s+)?([A-Z])[.):]\s|^([a-z])\)\s")
#: A bare letter is named where it begins, or is introduced, and the sentence does not make a word of it: not the C of
#: "vitamin C", nor the A of "A dog".
_BARE = re.compile(
    r"(?:^|\b(?:[Oo]ption|[Cc]hoice|[Ll]etter|[Aa]nswer|[Ii]s|[Bb]e|[Ii]t's|[Cc]hoose|[Pp]ick|[Ss]elect|[Ww]ith|[Ss]ay)\s|[:;=>\n])"
    r"[ \t\"'“*`$({\[]{0,20}([A-Z])[\"'”*`$)}\]]*"
    r"(?:\s*$|\s*[.,:;!?)\n]|\s+[-–—=]|\s+(?:because|since|as|for|which|that|and|or|but|if|by)\b)"
)
_LONE_LETTER = re.compile(r"(?:option|choice)?\s*\(?([A-Za-z])\s*[).:]?[.]?", re.IGNORECASE)
_TWO_LETTERS = re.compile(
    # The second is no article.
    r"(?<![\w'])\(?([A-Z])\)?[.:]?\s*(?:\bor\b|\band\b|[,/])\s*(?:option\s+)?(?-i:(?!a\s+[a-z]))\(?([A-Z])(?![\w'])",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+−]?\s?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)")
#: An en dash for a minus, and a bracket behind a minus.
_EN_DASH = re.compile(r"(?<![\w)])–(?=[$€£]?\d)")
_IN_BRACKETS = re.compile(r"([-−])\s?\(\s?([$€£]?[\d,.]+)\s?\)")
_CALCULATION = re.compile(r"\d\s*[-+−–*/×÷^]\s*(?:[$€£(]?\d|$)|\dx\d|\d\s+x\s+\d")
#: In front of a number, a sign in words.
_MINUS = re.compile(r"\b(?:minus|negative)\s+(?=[$€£]?\d)", re.IGNORECASE)
#: What is said with a number and more than the number: "5 million", a root, a fraction, a power, "x-5".
_MORE = re.compile(
    r"\d\s*(?:hundred|thousand|million|billion|trillion|dozen)s?\b|sqrt|\\[dt]?frac|√|\d\s*[²³π]|[^\W\d_][-−]\d",
    re.IGNORECASE,
)
_LONE_NUMBER = re.compile(rf"(?:{_NUMBER.pattern})(?:\s[a-z]+)?\.?", re.IGNORECASE)
#: What stands in the place of an answer.
_EMPTY = "… \t\n"
#: Between the words of a list. A comma in a number is none.
_COMMA = re.compile(r"(?<!\d)\s*,\s*|\s*,\s*(?!\d|\s)|,\s+")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}

_NOT = (
    r"(?:\b(?i:not|never|cannot|hardly)|(?i:n['’]t))\s+(?i:(?:be|ever|always|necessarily|really|quite|entirely)\s+)*"
    r"(?:(?i:option|choice)\s+)?[\"'“*]*"
)
#: An answer that is denied says what the answer is not.
_DENIED = {
    "choice": re.compile(rf"{_NOT}(?:\([A-Za-z]\)|[A-Z](?![\w'])|[a-z](?:\)|\W*$))"),
    "boolean": re.compile(rf"{_NOT}(?:true|false|yes|no)\b|\bno\s+(?:longer|one|doubt|idea|answer)\b", re.IGNORECASE),
    "number": re.compile(rf"{_NOT}[-+−]?\s?[$€£]?\d", re.IGNORECASE),
}


def extract(response: str, kind: AnswerType) -> str | None:
    """The answer that a response gives, in the form of `normalise`, or None if there is none that can be read.

    Looked for behind nothing but the response itself (a question restated by the model ends it), in this order: the
    last closed tag with a readable answer, a tag that was never closed, a box, a plain statement ("the answer is …"),
    a response that is nothing but the answer. Where the tags are only mentioned there is none. Takes time linear in the
    length of the response.
    """
    response = response.split(prompts.NEXT_QUESTION)[0]
    given: list[Tag] = []
    # What is left for statements: neither closed tags, nor mentions with the words that speak of them.
    places = [0]
    for tag in find_tags(response):
        mention = mention_begins(response, tag)
        if mention is None:
            given.append(tag)
        if mention is not None or tag.closed:
            places += [tag.start if mention is None else mention, tag.end]
    for tag in sorted(reversed(given), key=lambda tag: not tag.closed):
        if (answer := normalise(response[tag.inside : tag.inside_end], kind)) is not None:
            return answer
    kept = zip(places[::2], [*places[1::2], len(response)], strict=True)
    rest = "".join(response[begin:end] for begin, end in kept)
    for found in reversed(list(_boxes(rest))):
        if (answer := normalise(found, kind)) is not None:
            return answer
    if statements := [answer for found in _statements(rest, kind) if (answer := normalise(found, kind)) is not None]:
        return _settled(statements)
    last = response.rstrip().rpartition("\n")[2]
    if kind != "text" and last.startswith(_LAST_LINE) and _is_alone(last.removeprefix(_LAST_LINE).strip(), kind):
        return normalise(last.removeprefix(_LAST_LINE), kind)
    # The whole response: what stands beside a tag that holds nothing readable was not given as the answer.
    return normalise(response, kind) if _is_alone(response.strip(), kind) else None


def _boxes(text: str) -> Iterator[str]:
    r"""What stands in each LaTeX `\boxed{…}`."""
    return (_IN_BOX.sub(r"\1", box[1]) for box in _BOXED.finditer(text))


def _statements(text: str, kind: AnswerType) -> Iterator[str]:
    """What follows on each "the answer is", to the end of the line."""
    begun = list(_STATING.finditer(text))
    for stating, following in zip_longest(begun, begun[1:]):
        end = following.start() if following else len(text)
        found = _STATED.match(text, stating.end(), max(end, stating.end()))
        stated = found[1] if found else ""
        if following and stating.end() + len(stated) == end:
            # The line goes on with another statement: this one has the sentences before that one's.
            sentences = [sentence.end() for sentence in _SENTENCE_END.finditer(text, stating.end(), end)]
            stated = text[stating.end() : sentences[-1]] if sentences else ""
        if kind == "text":
            # Any words can be part of a text answer, but hardly those of the next sentence.
            stated = _NEXT_SENTENCE.split(stated, maxsplit=1)[0]
        yield stated


def _settled(statements: Sequence[str]) -> str | None:
    """The last of several statements, unless they go back and forth: who corrects himself does so once."""
    given = [answer for answer, _ in groupby(statements)]
    return given[-1] if len(set(given)) == len(given) else None


def _is_alone(response: str, kind: AnswerType) -> bool:
    """Whether a response is nothing but an answer: a single word, or a few that can mean nothing else."""
    if re.fullmatch(r"[^\s<>]+", response):
        return True
    alone = {"choice": _LONE_LETTER, "number": _LONE_NUMBER}.get(kind)
    return bool(alone and alone.fullmatch(response))


def tagged(rationale: str, kind: AnswerType) -> str | None:
    """The answer of a rationale that ends in a tag with a readable answer, as training data must; else None."""
    tags = find_tags(rationale)
    if not tags or tags[-1].end != len(rationale) or is_mention(rationale, tags[-1]):
        return None
    last = tags[-1]
    around = rationale[last.start : last.inside], rationale[last.inside_end : last.end]
    if tuple(map(str.lower, around)) != (prompts.ANSWER_BEGIN, prompts.ANSWER_END):
        return None
    return normalise(rationale[last.inside : last.inside_end], kind)


def normalise(text: str, kind: AnswerType) -> str | None:
    """An answer in one form: `(A)`, `True`, `No`, `1234.5`, or plain lower-case text; None if it is no such answer."""
    if len(boxes := list(_boxes(text))) == 1:
        text = boxes[0]
    if kind == "text":
        if not text.strip(_EMPTY):
            return None
        plain = " ".join(text.split()).lstrip("\"'“”‘’*` ").rstrip("\"'“”‘’*` .")
        return plain.casefold() or None
    text = text.replace("**", " ").strip(" \t\n*`")
    if _DENIED[kind].search(text):
        return None
    if kind == "choice":
        return _choice(text)
    if kind == "boolean":
        words = {word for word in re.findall(r"[a-z]+", text.lower()) if word in _TRUTH}
        return words.pop().capitalize() if len(words) == 1 else None
    return _number(text)


def judge(response: str, target: str, kind: AnswerType) -> tuple[str, Outcome]:
    """The answer in `response` (empty if unparsed), and whether it is the target."""
    answer = extract(response, kind)
    if answer is None:
        return "", "unparsed"
    return answer, "correct" if same(answer, target, kind) else "wrong"


def same(one: str, other: str, kind: AnswerType) -> bool:
    """Whether two answers are one: True and Yes are, and False and No, for a question asks with one pair or the other.

    So are two lists of words, with commas between them and without. An answer that can't be read is no other's equal.
    """
    first, second = normalise(one, kind), normalise(other, kind)
    if kind == "boolean" and first and second:
        return _TRUTH[first.lower()] == _TRUTH[second.lower()]
    if kind == "text" and first and second:
        return first == second or _COMMA.sub(" ", first) == _COMMA.sub(" ", second)
    return first is not None and first == second


def _choice(text: str) -> str | None:
    if alone := _LONE_LETTER.fullmatch(text):
        return f"({alone[1].upper()})"
    if any(one.upper() != other.upper() for one, other in _TWO_LETTERS.findall(text)):
        return None
    # "(A)", or "A." in front: where one stands, a bare letter is a part of the words.
    marked = {letter.upper() for found in _MARKED.findall(text) for letter in found if letter}
    letters = marked or set(_BARE.findall(text))
    return f"({letters.pop()})" if len(letters) == 1 else None


def _number(text: str) -> str | None:
    # Of "3 + 4 = 7", the result.
    text = _MINUS.sub("-", _EN_DASH.sub("-", text.rpartition("=")[2].strip()))
    text = _IN_BRACKETS.sub(r"\1\2", text)
    if _CALCULATION.search(text) or _MORE.search(text):
        return None
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
