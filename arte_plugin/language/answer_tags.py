"""Answer tags in a text: pairs of them, open ones, and those that are only mentioned.

Models repeat the request for the tags ("I put the final answer between <ans> and </ans>", "Format: <ans>answer</ans>").
What stands there is no answer. A mention is told by what stands in front of it and within, never by what follows, for
a reply ends at its answer.
"""

import re
from dataclasses import dataclass

#: As the prompt has it, and as models change it.
_TAG = re.compile(r"<[ \t]?(/?)[ \t]?ans(?:wer)?[ \t]?>", re.IGNORECASE)
#: To the end of the line, or to where a tag begins or would have begun; an answer may well hold a "<".
LINE = r"((?:(?!<(?:/|[a-z]|\Z))[^\n])*)"
_REST = re.compile(rf"[ \t]*\n?{LINE}", re.IGNORECASE)

#: Characters in front of a tag that are looked at.
_BEFORE = 60
_FILLERS = r"(?:\s+(?:is|of|this|these|the|a|tags?|form|format|follow(?:s|ing)|so|as|be|should|must|xml|html))*"
#: Words right in front of a tag that speak of the tag.
_SPEAKING = re.compile(
    rf"\b(?:format|form|between|in|inside|within|like|with|using|use|by|as|tags?){_FILLERS}[\s:;,=`\"'“*(\[-]*$",
    re.IGNORECASE,
)
#: What stands here is an example, whatever it is.
_EXAMPLE = re.compile(r"(?:\be\.g\.|\bfor example|\bfor instance|\bsuch as)[\s:,`\"'“*(\[-]*$", re.IGNORECASE)
#: What a text puts in the place of an answer.
_PLACEHOLDER = re.compile(
    r"(?:(?:the|your|my|final|correct|right)\s+)*(?:answers?|option|letter|number|word|text|value|solution|choice)"
    r"|\(?x\)?|[\s.…\"'`_-]*",
    re.IGNORECASE,
)
_BETWEEN_TAGS = ("and", "or", "to")
_QUOTES = " \t\n`\"'“”‘’*"


@dataclass(frozen=True)
class Tag:
    """A pair of tags, or one that was never closed: the places of its parts in the text."""

    start: int
    inside: int
    inside_end: int
    #: Behind the closing tag, or behind what an open tag is taken to hold.
    end: int
    closed: bool


def find_tags(text: str) -> list[Tag]:
    """All pairs of tags and open tags in `text`, in their order, in time linear in its length."""
    found: list[Tag] = []
    opened: re.Match[str] | None = None
    for tag in _TAG.finditer(text):
        if not tag[1]:
            if opened is not None:
                found.append(_open(text, opened, tag.start()))
            opened = tag
        elif opened is not None:
            found.append(Tag(opened.start(), opened.end(), tag.start(), tag.end(), closed=True))
            opened = None
    return [*found, _open(text, opened, len(text))] if opened is not None else found


def _open(text: str, tag: re.Match[str], until: int) -> Tag:
    rest = _REST.match(text, tag.end(), until)
    assert rest is not None
    return Tag(tag.start(), tag.end(), rest.end(), rest.end(), closed=False)


def mention_begins(text: str, tag: Tag) -> int | None:
    """Where the words begin that speak of the tag, if the text only speaks of it; None if it gives an answer there."""
    begin = max(0, tag.start - _BEFORE)
    before, content = text[begin : tag.start], text[tag.inside : tag.inside_end]
    if example := _EXAMPLE.search(before):
        return begin + example.start()
    speaking = _SPEAKING.search(before)
    start = begin + speaking.start() if speaking else tag.start
    bare = content.strip(_QUOTES).lower()
    if bare and content[0] in _QUOTES:
        # " and ", which is no answer of one word: that one would stand close to its tags.
        if not tag.closed and bare.split(maxsplit=1)[0] in _BETWEEN_TAGS:
            return start
        if tag.closed and bare in _BETWEEN_TAGS and content[-1] in _QUOTES:
            return start
    placeholder = bare in _BETWEEN_TAGS or _PLACEHOLDER.fullmatch(bare)
    return start if placeholder and speaking else None


def is_mention(text: str, tag: Tag) -> bool:
    """Whether the text speaks of the tag there, and gives no answer in it."""
    return mention_begins(text, tag) is not None
