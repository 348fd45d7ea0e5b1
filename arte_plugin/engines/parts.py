"""A reply put together from several calls to a server, which knows neither answers nor thoughts.

A server ends a reply at a string, wherever it stands. Where that was a mention of the answer's tag, it is asked to go
on; and a thought, in which nothing ends a reply, is a call of its own.
"""

from dataclasses import replace

from arte_plugin.engines.base import Completion, Request
from arte_plugin.engines.endings import reply_end
from arte_plugin.language import prompts

#: Calls that may end at a mention of the closing tag. The next one goes on to the end of its tokens, and is cut here.
MENTIONS = 3


class Parts:
    """What is to be asked next for one request, and what it came to."""

    def __init__(self, request: Request, stops: bool = True):
        """`stops` says whether the server is told of stop strings at all; if not, it writes everything in one go."""
        self._request = request
        self._stops = stops
        self._text, self._calls, self._mentions = "", 0, 0
        self._prompt_tokens, self._new_tokens = 0, 0
        #: Tokens that are left, of the thought or of what follows on it.
        self._left = request.thought.max_tokens if request.thought else request.max_new_tokens
        self._thinks = request.thought is not None
        self._finish: str | None = None

    def next(self) -> Request | None:
        """The next call, None when the reply is over."""
        if self._finish is not None:
            return None
        of = self._request
        stop = of.stop
        if self._thinks:
            assert of.thought is not None
            stop = (of.thought.end,)
        elif of.answer is not None and self._stops_at_tags:
            stop = (prompts.ANSWER_END, *stop)
        # A part that is sampled like the one before it would get that one's random numbers.
        part = replace(of, prompt=of.prompt + self._text, seed=of.seed + self._calls, stop=stop, answer=None)
        if not self._stops:
            return replace(part, max_new_tokens=of.most_new_tokens, stop=())
        return replace(part, max_new_tokens=self._left)

    @property
    def _stops_at_tags(self) -> bool:
        return not self._thinks and self._mentions < MENTIONS

    def add(self, part: Completion) -> None:
        """Take the reply to the last call."""
        of = self._request
        self._text += part.text
        self._prompt_tokens = self._prompt_tokens or part.prompt_tokens
        self._new_tokens += part.new_tokens
        self._left -= part.new_tokens
        self._calls += 1
        if (end := reply_end(of, self._text)) is not None:
            self._text, self._finish = self._text[:end], "stop"
        elif not self._stops:
            self._finish = part.finish
        elif self._thinks and of.thought is not None and of.thought.end in part.text:
            self._thinks, self._left = False, of.max_new_tokens
        elif of.answer is not None and part.text.endswith(prompts.ANSWER_END) and self._stops_at_tags:
            # The server was told to stop there; a reply whose last call was not has ended of itself.
            self._mentions += 1
            self._finish = None if self._left > 0 else "length"
        else:
            self._finish = part.finish

    def completion(self) -> Completion:
        """The whole reply, once it is over. A prompt that was read again for a later part is counted once."""
        return Completion(
            self._text, "stop" if self._finish == "stop" else "length", self._prompt_tokens, self._new_tokens
        )
