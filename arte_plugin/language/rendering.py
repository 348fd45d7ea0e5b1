"""Prompts as a model must see them: inside its chat template, or as plain text, with special tokens right."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, get_args

from arte_plugin.engines.base import Thought
from arte_plugin.language.chat_template import ChatTemplate
from arte_plugin.language.special_text import SpecialText

PromptStyle = Literal["auto", "plain", "chat"]


class Renderer:
    """Renders prompts and completions for one tokenizer.

    What it returns holds every special token as text and is tokenised with `add_special_tokens=False`, so that what
    is generated from, what is trained on and what the request cache hashes are one and the same. Special strings inside
    a question or a reply stay text (`special_text`).

    `template_kwargs` go to the chat template, whose clock stands at `date` (ISO, default: today). With
    `thought_tokens`, a teacher thinks before it replies, in so many tokens at most: `asking` is where its thought
    begins, and `said` is what it says behind it. Raises `ConfigError` for a template that can't be used.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt_style: PromptStyle,
        template_kwargs: Mapping[str, Any] | None = None,
        date: str | None = None,
        thought_tokens: int = 0,
    ):
        self.tokenizer = tokenizer
        has_template = bool(getattr(tokenizer, "chat_template", None))
        self.style: Literal["plain", "chat"] = "plain"
        if prompt_style == "chat" or (prompt_style == "auto" and has_template):
            self.style = "chat"
        self.date = date
        self.template: ChatTemplate | None = None
        if self.style == "chat":
            self.template = ChatTemplate(tokenizer, template_kwargs, date, thinks=thought_tokens > 0)
        #: What comes before a reply; None where nothing does.
        self.thought = Thought(self.template.thought_end, thought_tokens) if self.template and thought_tokens else None
        self._special = SpecialText(tokenizer)

    def prompt(self, text: str, prefill: str = "") -> str:
        """`text` as the user's turn (or as it is), up to where the reply follows; `prefill` begins the reply."""
        text, prefill = self._special.as_text(text), self._special.as_text(prefill)
        if self.template is None:
            return self.bos + text + (" " + prefill if prefill else "")
        return self.template.prompt(text) + (self.template.space + prefill if prefill else "")

    def asking(self, text: str, prefill: str = "") -> str:
        """`prompt`, or where the model has yet to think: up to the beginning of its thought, if no reply is begun."""
        if self.template is None or self.thought is None or prefill:
            return self.prompt(text, prefill)
        return self.template.thinking_prompt(self._special.as_text(text))

    def said(self, text: str) -> str | None:
        """A reply without the thought in front of it, which nobody is shown; None for a thought that never ended."""
        if self.thought is None:
            return text
        _, end, said = text.partition(self.thought.end)
        return self._special.left_out(said) if end else None

    def completion(self, text: str) -> str:
        """`text` as the model's reply, as its template writes it, up to the token that ends the turn; for `prompt`."""
        space = " " if self.template is None else self.template.space
        return space + self._special.as_text(text.strip()) + self.end_of_reply

    def part_of_reply(self, text: str, begun: str = "") -> str:
        """`text` as a part of a reply that goes on behind it; for `prompt` with the prefill `begun`."""
        space = " " if self.template is None else self.template.space
        return ("" if begun else space) + self._special.as_text(text)

    def special_strings_in(self, text: str) -> list[str]:
        """What in `text` this tokenizer would take for its own tokens; `prompt` and `completion` make text of it."""
        return self._special.found_in(text)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides how a text is rendered, beside the tokenizer."""
        template = self.template
        return {
            "style": self.style,
            **({"kwargs": template.kwargs} if template and template.kwargs else {}),
            **({"date": self.date} if template and template.tells_the_date else {}),
            **({"thinks": True} if self.thought else {}),
        }

    @cached_property
    def bos(self) -> str:
        """The text of the token that the tokenizer puts in front of everything, or nothing."""
        plain, marked = (self.tokenizer("a", add_special_tokens=flag)["input_ids"] for flag in (False, True))
        if len(marked) > len(plain) and marked[0] == self.tokenizer.bos_token_id:
            return self.tokenizer.bos_token
        return ""

    @property
    def end_of_reply(self) -> str:
        """What ends the model's turn: the template's end-of-turn token, or the end-of-sequence token."""
        return self.tokenizer.eos_token if self.template is None else self.template.end

    @cached_property
    def end_ids(self) -> list[int]:
        """The tokens that end a reply: EOS, and the last one of `end_of_reply`."""
        ends = [self.tokenizer.eos_token, self.template.end_token if self.template else None]
        return sorted({self.tokenizer.convert_tokens_to_ids(token) for token in ends if token})


def as_input_format(style: PromptStyle, template_kwargs: Mapping[str, Any] | None, date: str | None) -> str:
    """Settings of a `Renderer` as one string, for a key of Axolotl's that takes no more."""
    if not template_kwargs and date is None:
        return style
    settings = {"prompt_style": style, "template_kwargs": dict(template_kwargs or {}), "date": date}
    return json.dumps({key: value for key, value in settings.items() if value}, sort_keys=True)


def from_input_format(text: str) -> dict[str, Any]:
    """What `as_input_format` was given, as arguments of `Renderer`. Raises `ValueError` for anything else."""
    settings = json.loads(text) if text.startswith("{") else {"prompt_style": text}
    if settings.get("prompt_style") not in get_args(PromptStyle) or not set(settings) <= _SETTINGS:
        raise ValueError(f"no prompt style in {text!r}")
    return settings


_SETTINGS = {"prompt_style", "template_kwargs", "date"}


def token_ids(tokenizer: Any, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """Token ids of a rendered prompt, just as the model will be given it, and of the completion that follows it."""
    prompt_ids, whole, reply_ids = (
        list(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (prompt, prompt + completion, completion)
    )
    # Together where it can be: by itself, a completion gets a second space in front from some tokenizers. Apart where a
    # token would reach over the border, for the prompt that is generated from ends there.
    together = whole[: len(prompt_ids)] == prompt_ids
    return prompt_ids, whole[len(prompt_ids) :] if together else reply_ids
