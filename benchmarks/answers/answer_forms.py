"""A known answer in the forms in which models write it, each with what must be read from it.

Used by the unit tests on values of our own, and by `check_targets.py` on the targets of real data.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from arte_plugin.config.tasks import AnswerType
from arte_plugin.language.answers import normalise


class Form(NamedTuple):
    """A response that a model could write."""

    #: How the answer is put into the response, and how the answer itself is written.
    shape: str
    writing: str
    response: str
    #: The answer to be read, in normal form, or None if none may be read.
    read: str | None


#: Around the answer `{it}`: responses that give it. `{other}` is a wrong answer, `{question}` the question.
GIVEN = {
    "tag": "Let me see. So the answer is <ans>{it}</ans>",
    "tag alone": "<ans>{it}</ans>",
    "tag in capitals": "<ANS>{it}</ANS>",
    "tag with white space": "<ans>\n {it} \n</ans>",
    "tag, then prose": "<ans>{it}</ans>\nI hope that helps.",
    "two tags": "First I thought <ans>{other}</ans>. But it is <ans>{it}</ans>",
    "three tags": "<ans>{other}</ans> or <ans>{other}</ans>? No: <ans>{it}</ans>",
    "tag, then an empty one": "It is <ans>{it}</ans>, I am sure. <ans></ans>",
    "tag against a statement": "The answer is {other}? No: <ans>{it}</ans>",
    "tag named, then used": "I put it between <ans> and </ans>: <ans>{it}</ans>",
    "open tag": "So the answer is <ans>{it}",
    "open tag, answer on the next line": "So the answer is <ans>\n{it}",
    "open tag, then prose": "So the answer is <ans>{it}\nI hope that helps.",
    "closed by an opening tag": "So the answer is <ans>{it}<ans>",
    "half-closed tag": "So the answer is <ans>{it}</",
    "the answer is": "The answer is {it}",
    "the answer is, full stop": "The final answer is {it}.",
    "the answer is, colon": "So the correct answer is: {it}",
    "the answer is, then a line": "The answer is {it}\n\nI hope that helps.",
    "the answer is, bold": "The answer is **{it}**.",
    "answer, colon": "Answer: {it}",
    "answer, colon, bold": "**Answer:** {it}",
    "question repeated, then answered": "Question: {question}\nThe answer is <ans>{it}</ans>",
    "tag, then another question": "<ans>{it}</ans>\n\nQuestion: And this one?\nAnswer: <ans>{other}</ans>",
    "open tag, then another question": "<ans>{it}\n\nQuestion: And this one?\nAnswer: <ans>{other}</ans>",
    "statement, then another question": "The answer is {it}\n\nQuestion: And this one?\nThe answer is {other}",
}

#: Responses that hold the answer, or some answer, but do not give one.
NOT_GIVEN = {
    "empty tag": "I am not sure about {it}. <ans></ans>",
    "tags named only": "I shall put {it} between <ans> and </ans>.",
    "in passing": "It could be {it}, but that I can't tell.",
    "only another question's": "I don't know.\n\nQuestion: And this one?\nAnswer: <ans>{it}</ans>",
    "question repeated": "{question}",
    "question repeated, marked": "Question: {question}",
}

#: The same, where a text answer could well read so.
NOT_GIVEN_UNLESS_TEXT = {
    "not, in a tag": "<ans>not {it}</ans>",
    "the answer is not": "The answer is not {it}.",
    "the answer isn't": "The answer isn't {it}.",
    "one or the other": "<ans>{it} or {other}</ans>",
    "one or the other, stated": "The answer is either {other} or {it}.",
}


def forms(kind: AnswerType, target: str, other: str, question: str) -> Iterator[Form]:
    """The target of a question in every form; `other` is any other answer of the kind."""
    read = normalise(target, kind)
    if read is None:
        raise ValueError(f"{target!r} is no {kind} answer")
    for writing, it in (writings(kind, read) | option_writings(kind, read, question)).items():
        for shape, text in GIVEN.items():
            yield Form(shape, writing, _filled(text, it, other, question), _yes_or_true(kind, read, it))
        if "words" not in writing:
            # Of a text, only a single word can be told from a sentence.
            alone = None if kind == "text" and not re.fullmatch(r"[^\s<>]+", it) else _yes_or_true(kind, read, it)
            yield Form("nothing else", writing, it, alone)
            yield Form("nothing else, then another question", writing, f" {it}\n\nQuestion: And {other}?", alone)
        for shape, text in NOT_GIVEN.items():
            yield Form(shape, writing, _filled(text, it, other, question), None)
        if kind != "text":
            for shape, text in NOT_GIVEN_UNLESS_TEXT.items():
                yield Form(shape, writing, _filled(text, it, other, question), None)


def writings(kind: AnswerType, answer: str) -> dict[str, str]:
    """The ways to write an answer that is in normal form: by a name, the text."""
    if kind == "choice":
        letter = answer.strip("()")
        return {
            "(A)": answer,
            "A": letter,
            "a": letter.lower(),
            "A.": f"{letter}.",
            "A)": f"{letter})",
            "option A": f"option {letter}",
            "Option (A)": f"Option {answer}",
        }
    if kind == "boolean":
        pair = {"True": "Yes", "False": "No", "Yes": "True", "No": "False"}
        return {
            "True": answer,
            "true": answer.lower(),
            "TRUE": answer.upper(),
            "True.": f"{answer}.",
            '"True"': f'"{answer}"',
            "the other pair": pair[answer],
        }
    if kind == "number":
        value = Decimal(answer)
        sign, size = ("-" if value < 0 else ""), abs(value)
        return {
            "1234.5": answer,
            "1,234.5": f"{value:,}",
            "1234.50": f"{value:f}0" if "." in answer else f"{value:f}.0",
            "$1,234.50": f"{sign}${size:,.2f}" if _exponent(value) >= -2 else f"{sign}${size:,}",
            "1234.5.": f"{answer}.",
            "1234.5 pears": f"{answer} pears",
            "true minus sign": answer.replace("-", "−"),
        }
    return {
        "pear": answer,
        "Pear": answer[:1].upper() + answer[1:],
        "PEAR": answer.upper(),
        "pear.": f"{answer}.",
        '"pear"': f'"{answer}"',
        '"pear".': f'"{answer}".',
        '"pear."': f'"{answer}."',
    }


def option_writings(kind: AnswerType, answer: str, question: str) -> dict[str, str]:
    """The ways to write a letter together with its option, if the question has a line `(A) words` for it."""
    option = re.search(rf"^{re.escape(answer)}[ \t]+(\S.*)", question, re.MULTILINE) if kind == "choice" else None
    if not option:
        return {}
    letter, words = answer.strip("()"), option[1].strip()
    return {
        "(A) words": f"{answer} {words}",
        "A. words": f"{letter}. {words}",
        "A) words": f"{letter}) {words}",
        "a) words": f"{letter.lower()}) {words}",
        "option (A): words": f"option {answer}: {words}",
    }


def _filled(text: str, it: str, other: str, question: str) -> str:
    # Not `str.format`: a question or an answer may hold braces.
    parts = {"{it}": it, "{other}": other, "{question}": question}
    return re.sub(r"\{(?:it|other|question)\}", lambda found: parts[found[0]], text)


def _yes_or_true(kind: AnswerType, read: str, it: str) -> str:
    """The normal form of what is written: an answer in the other pair of words keeps its word."""
    return it if kind == "boolean" and it.isalpha() and it.lower() != read.lower() else read


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
