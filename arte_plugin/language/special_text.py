"""Strings that a tokenizer turns into tokens of its own (`<|im_end|>`, `</s>`), where somebody wrote them as text.

Inside a question or a rationale they would end the turn, or begin another. They are written with a space behind their
first character, `< |im_end|>`: text for every tokenizer, and a reader sees what it was. Rows keep what was written.
"""

import re
from collections.abc import Iterable
from typing import Any

#: Some templates look for them in a reply, whether they are tokens or not.
_THOUGHT_MARKS = ("<think>", "</think>")


class SpecialText:
    """Finds the special strings of one tokenizer and its chat template in text, and makes text of them."""

    def __init__(self, tokenizer: Any):
        self.strings = _special_strings(tokenizer)
        self._pattern = _any_of(self.strings)

    def found_in(self, text: str) -> list[str]:
        """The special strings in `text`, each once, in their order."""
        return list(dict.fromkeys(self._pattern.findall(text))) if self.strings else []

    def left_out(self, text: str) -> str:
        """`text` without the tokens that a model wrote beside it, where they were not left out in decoding."""
        return self._pattern.sub("", text) if self.strings else text

    def as_text(self, text: str) -> str:
        """`text` without a special string. What holds none stays as it is."""
        while self.strings and self._pattern.search(text):
            # Taking one apart can put the rest of another together; each turn leaves fewer.
            text = self._pattern.sub(lambda found: found.group()[0] + " " + found.group()[1:], text)
        return text


def _any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Finds whichever is longest. By how they begin: some tokenizers have thousands of them, most of them unused."""
    by_begin: dict[str, list[str]] = {}
    for one in sorted(strings, key=len, reverse=True):
        by_begin.setdefault(one[:2], []).append(re.escape(one[2:]))
    return re.compile("|".join(f"{re.escape(begin)}(?:{'|'.join(rest)})" for begin, rest in by_begin.items()))


def _special_strings(tokenizer: Any) -> list[str]:
    """Special tokens, and those added tokens that the chat template writes.

    Other added tokens, such as Gemma's `<table>`, are a tokenizer's way to write ordinary text.
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    strings = {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    strings |= {token.content for token in added if token.special or token.content in template}
    strings |= {mark for mark in _THOUGHT_MARKS if mark in template}
    return sorted(_can_be_split(strings))


def _can_be_split(strings: Iterable[str]) -> Iterable[str]:
    return (one for one in strings if len(one) > 1 and not any(letter.isspace() for letter in one))
