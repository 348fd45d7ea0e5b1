"""Reading the questions that a teacher writes between tags, whatever else it writes."""

import re
from dataclasses import dataclass

_BLOCK = re.compile(r"<question_\w{0,8}>\s*(?:<input>)?|<input>", re.IGNORECASE)
_TAG = re.compile(r"</?(?:question_\w{0,8}|input|target)>", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedQuestion:
    """A question and the answer that the teacher claims for it."""

    question: str
    target: str


def parse_questions(reply: str) -> tuple[list[ParsedQuestion], list[tuple[str, str]]]:
    """The questions in a reply, and what was rejected as `(reason, text)`.

    Every block that begins becomes one or the other. Reasons: `malformed`, `truncated` (the last block, cut off),
    `empty` (question or target), `no_tags`.
    """
    blocks = _blocks(reply)
    if not blocks:
        return [], [("no_tags", reply)]
    questions: list[ParsedQuestion] = []
    rejected: list[tuple[str, str]] = []
    for start, end in blocks:
        block = reply[start:end]
        parsed = _parse_block(block)
        if isinstance(parsed, ParsedQuestion):
            questions.append(parsed)
        else:
            cut_off = (
                parsed == "malformed"
                and end == len(reply)
                and not re.search("</target>|</question_", reply[start:], re.IGNORECASE)
            )
            rejected.append(("truncated" if cut_off else parsed, block.strip()))
    return questions, rejected


def begun_before(reply: str) -> list[str]:
    """What stands in a reply before each of the questions that `parse_questions` finds in it."""
    return [
        reply[:start] for start, end in _blocks(reply) if isinstance(_parse_block(reply[start:end]), ParsedQuestion)
    ]


def place_behind(begun: str) -> int:
    """The place, from 0, of a question in a reply that begins with `begun`: so many blocks came before it."""
    return len(_blocks(begun))


def _blocks(reply: str) -> list[tuple[int, int]]:
    starts = [found.start() for found in _BLOCK.finditer(reply)]
    return list(zip(starts, [*starts, len(reply)][1:], strict=True))


def _parse_block(block: str) -> ParsedQuestion | str:
    """The question of one block, or why there is none: tags in the order input, /input, target, /target.

    An /input that is forgotten, or written as /target, is forgiven: <target> says as clearly where the question ends.
    """
    found = [(tag.group().lower(), tag.start(), tag.end()) for tag in _TAG.finditer(block)]
    inner = [tag for tag in found if "question" not in tag[0]]
    order = [tag[0] for tag in inner]
    if order[:1] != ["<input>"] or order[-2:] != ["<target>", "</target>"]:
        return "malformed"
    if order[1:-2] not in (["</input>"], ["</target>"], []):
        return "malformed"
    question = block[inner[0][2] : inner[1][1]].strip()
    target = block[inner[-2][2] : inner[-1][1]].strip()
    if "</" in question + target:
        # What is left of a tag that the model broke.
        return "malformed"
    return ParsedQuestion(question, target) if question and target else "empty"
