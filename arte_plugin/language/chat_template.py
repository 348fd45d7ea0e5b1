"""What one chat template writes around a question and its reply, found out by rendering it."""

from collections.abc import Callable, Mapping
from datetime import date as Date
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

from arte_plugin.errors import ConfigError

#: How templates are told not to think, and to think: the words that published templates know.
SWITCHES = ("enable_thinking", "thinking")

#: How a thought ends. A thought that is closed at once is none.
THOUGHT_ENDS = ("</think>", "<channel|>", "<|END_THINKING|>", "[/THINK]", "</seed:think>")

#: Stand for a question and its reply. Templates may trim or split a text, so one of them has several lines.
_QUESTION = "Whose is this question?"
_REPLY = "This is\n\nthe reply <ans>(A)</ans>"


class OpenThoughtError(ConfigError):
    """The template opens a thought in every prompt, and has no switch for it."""


class ChatTemplate:
    """The template of `tokenizer`: the prompt of a question, and how a reply to it begins and ends.

    `kwargs` go to the template. A thought that the template knows how to switch off is off, unless the model `thinks`;
    the template's clock stands at `date` (ISO, default: today).

    Raises `ConfigError` where what the template asks with and what it writes for a reply don't go together.
    """

    def __init__(self, tokenizer: Any, kwargs: Mapping[str, Any] | None, date: str | None, thinks: bool = False):
        self._tokenizer = tokenizer
        self._source = str(tokenizer.chat_template)
        self._clock = frozen_clock(date)
        self._in_parts = False
        self.thinks = thinks
        self.kwargs: dict[str, Any] = dict(kwargs or {})
        self._settle_content()
        self.kwargs |= self._switched(thinks)
        generated_from, reply = self._render(_QUESTION, None), self._render(_QUESTION, _REPLY)
        if _REPLY not in reply:
            self._refuse("does not write a reply as it is given")
        before, _, after = reply.rpartition(_REPLY)
        #: Whether the generation prompt is how the template begins a reply. If not, it opens a thought.
        self.prompt_is_prefix = before.startswith(generated_from)
        more = generated_from.removeprefix(before) if generated_from.startswith(before) else ""
        #: Gemma 4 asks behind an empty thought, and leaves that out of what it writes of earlier turns.
        self.forgets_empty_thought = more.strip().endswith(THOUGHT_ENDS)
        if not self.prompt_is_prefix and not self.forgets_empty_thought and not thinks:
            self._refuse_thought(before, generated_from)
        between = before[len(generated_from) :] if self.prompt_is_prefix else ""
        #: What the prompt gets so that a reply follows on it: an empty thought, a channel.
        self.opening = between if between.strip() else ""
        #: White space that the template puts in front of a reply. It belongs to the reply: tokenizers join the two.
        self.space = "" if between.strip() else between
        self.end = self._ending(after)
        #: Whether it writes an end of turn at all; where it does not, EOS takes its place.
        self.writes_an_end = bool(after.strip())

    # --- What the renderer asks ---------------------------------------------------------------------------------------

    def prompt(self, question: str) -> str:
        """Up to where the reply begins."""
        if self.prompt_is_prefix or self.forgets_empty_thought:
            return self._render(question, None) + self.opening
        # The generation prompt has an open thought that no reply follows on: take what the template itself writes.
        return self._render(question, _REPLY).rpartition(_REPLY)[0]

    def thinking_prompt(self, question: str) -> str:
        """Up to where a thought begins."""
        return self._render(question, None)

    @cached_property
    def tells_the_date(self) -> bool:
        """Whether what it writes depends on the day."""
        written = []
        for day in ("2001-02-03", "2017-11-28"):
            clock, self._clock = self._clock, frozen_clock(day)
            try:
                written.append(self._render(_QUESTION, _REPLY))
            finally:
                self._clock = clock
        return written[0] != written[1]

    def knows(self, switch: str) -> bool:
        """Whether it writes something else with one of `SWITCHES` on than off."""
        return switch in self._source and self._both({switch: True}) != self._both({switch: False})

    @cached_property
    def thought_end(self) -> str:
        """What a model writes between its thought and its reply: a closing tag, or the head of the final channel.

        Raises `ConfigError` for a template that knows no thoughts.
        """
        known = [end for end in THOUGHT_ENDS if end in (self.opening or self._source)]
        found = known[0] if known else self.opening.strip()
        if not found:
            self._refuse("knows no thoughts, so that `reasoning` has nothing to take away")
        return found

    @property
    def end_token(self) -> str:
        """The last token of `end`: behind it, the turn is over."""
        return max((token for token in special_tokens(self._tokenizer) if self.end.endswith(token)), key=len)

    # --- Finding out --------------------------------------------------------------------------------------------------

    def _render(self, question: str, reply: str | None, **kwargs: Any) -> str:
        """The text of the user's turn and the assistant's; of the generation prompt, where there is no reply."""
        messages = [{"role": "user", "content": self._content(question)}]
        if reply is not None:
            messages.append({"role": "assistant", "content": self._content(reply)})
        known = {**self.kwargs, **kwargs}
        if "strftime_now" in self._source:
            known["strftime_now"] = self._clock
        return self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=reply is None, **known
        )

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._in_parts else text

    def _settle_content(self) -> None:
        """Templates of models that also see read a list of parts; most of them read plain text as well."""
        problem: Any = "leaves out the question"
        for self._in_parts in (False, True):
            try:
                if _QUESTION in self._render(_QUESTION, None) and _QUESTION in self._render(_QUESTION, _REPLY):
                    return
            except Exception as error:  # noqa: BLE001 - a template may raise whatever it likes
                problem = f"can't be rendered ({type(error).__name__}: {error})"
        self._refuse(problem)

    def _switched(self, thinks: bool) -> dict[str, Any]:
        """The switch that this template knows, set; nothing where there is none, or where it is set already."""
        return next(({name: thinks} for name in SWITCHES if name not in self.kwargs and self.knows(name)), {})

    def _both(self, kwargs: Mapping[str, Any]) -> tuple[str, str]:
        return self._render(_QUESTION, None, **kwargs), self._render(_QUESTION, _REPLY, **kwargs)

    def _ending(self, after: str) -> str:
        """The token, or the few, that end a turn: all that stand behind the reply before white space or a new turn."""
        eos = self._tokenizer.eos_token
        # Llama 2 writes a space in front of its EOS.
        space, after = after[: len(after) - len(after.lstrip())], after.strip()
        if not after:
            if eos is None:
                self._refuse("ends a reply with nothing, and the tokenizer has no EOS token")
            return eos
        tokens = sorted(special_tokens(self._tokenizer), key=len, reverse=True)
        # What stands behind a question: its own end of turn, and then the head of the next turn.
        header = self._render(_QUESTION, None).rpartition(_QUESTION)[2].lstrip()
        header = header.removeprefix(next((token for token in tokens if header.startswith(token)), ""))
        end = ""
        while found := next((token for token in tokens if after.startswith(token, len(end))), None):
            if end and found in header:
                break
            end += found
            if found == eos:
                break
        if not end:
            self._refuse(
                f"ends a reply with {after.split()[0]!r}, which is no token of this tokenizer: nothing would end what "
                "the model writes. Add it as a special token, or use another template"
            )
        return space + end

    def _refuse_thought(self, before: str, generated_from: str) -> NoReturn:
        asked, written = (text.rpartition(_QUESTION)[2] for text in (generated_from, before))
        raise OpenThoughtError(
            self._refusal(
                f"asks with {asked!r} behind a question, and writes a reply behind {written!r}: it opens a thought "
                "and knows no switch for it. What would be trained is not what the model will be asked with"
            )
        )

    def _refuse(self, problem: str) -> NoReturn:
        raise ConfigError(self._refusal(problem))

    def _refusal(self, problem: str) -> str:
        name = getattr(self._tokenizer, "name_or_path", "") or "this tokenizer"
        return (
            f"The chat template of {name} {problem}. Use `prompt_style: plain`, or a model with another template; for "
            "a teacher that thinks there is `arte.teacher.reasoning: true`."
        )


def frozen_clock(date: str | None) -> Callable[[str], str]:
    """The `strftime_now` of a template, always on the same day at noon. Raises `ValueError` for what is no ISO date."""
    day = Date.fromisoformat(date) if date else Date.today()
    moment = datetime(day.year, day.month, day.day, 12)
    return lambda form: moment.strftime(form)


def special_tokens(tokenizer: Any) -> set[str]:
    """All that becomes one token wherever it stands, but for white space."""
    added = [token.content for token in getattr(tokenizer, "added_tokens_decoder", {}).values()]
    return {token for token in (*added, *tokenizer.all_special_tokens) if token.strip()}
