"""Prompts as a model must see them: inside its chat template, or as plain text, with special tokens right."""

from functools import cached_property
from typing import Literal

PromptStyle = Literal["auto", "plain", "chat"]


class Renderer:
    """Renders prompts and completions for one tokenizer.

    What it returns holds every special token as text and is tokenised with `add_special_tokens=False`, so that what
    is generated from, what is trained on and what the request cache hashes are one and the same.
    """

    def __init__(self, tokenizer, prompt_style: PromptStyle):
        self.tokenizer = tokenizer
        has_template = bool(getattr(tokenizer, "chat_template", None))
        self.style: Literal["plain", "chat"] = "plain"
        if prompt_style == "chat" or (prompt_style == "auto" and has_template):
            self.style = "chat"

    def prompt(self, text: str, prefill: str = "") -> str:
        """`text` as the user's turn (or as it is), up to where the model goes on; `prefill` begins its reply."""
        if self.style == "plain":
            return self.bos + text + (" " + prefill if prefill else "")
        messages = [{"role": "user", "content": text}]
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return rendered + prefill

    def completion(self, text: str) -> str:
        """`text` as the model's reply with the tokens that end it, to follow on `prompt`."""
        return (" " + text.strip() if self.style == "plain" else text.strip()) + self.end_of_reply

    def training_prompt(self, text: str) -> str:
        """Like `prompt`, for a library that adds the tokenizer's own special tokens: its BOS would be doubled."""
        rendered = self.prompt(text)
        return rendered[len(self.bos) :] if self.bos and rendered.startswith(self.bos) else rendered

    @cached_property
    def bos(self) -> str:
        """The text of the token that the tokenizer puts in front of everything, or nothing."""
        plain, marked = (self.tokenizer("a", add_special_tokens=flag)["input_ids"] for flag in (False, True))
        if len(marked) > len(plain) and marked[0] == self.tokenizer.bos_token_id:
            return self.tokenizer.bos_token
        return ""

    @cached_property
    def end_of_reply(self) -> str:
        """What ends the model's turn: the template's end-of-turn token, or the end-of-sequence token."""
        if self.style == "plain":
            return self.tokenizer.eos_token
        reply = "reply"
        turns = [{"role": "user", "content": "prompt"}, {"role": "assistant", "content": reply}]
        rendered = self.tokenizer.apply_chat_template(turns, tokenize=False)
        ending = rendered[rendered.rindex(reply) + len(reply) :].strip()
        # Templates that end a turn without a token of their own (or with the next turn's header) get the EOS token.
        return ending or self.tokenizer.eos_token
