"""Where a reply ends, for whoever makes it: an engine in this process token by token, a server, or lm-eval.

Probes, respondents, the teacher's rationales and the test all end by this one rule, so that they agree.
"""

from arte_plugin.engines.base import Request
from arte_plugin.language import answers, prompts


def reply_end(request: Request, text: str, seen: int = 0) -> int | None:
    """Where in `text`, what was written so far, the reply is over; None if it goes on.

    It is over behind the first of its stop strings, or behind a closing answer tag once there is an answer that can be
    read: a mention of the tags ends nothing. With a thought, all of this holds behind its end. Up to `seen` characters
    are known to hold no end.
    """
    begin = 0
    if request.thought:
        thought, end, _ = text.partition(request.thought.end)
        if not end:
            return None
        begin = len(thought) + len(end)
    seen = max(begin, seen)
    ends = [
        place + len(stop) for stop in request.stop if (place := text.find(stop, max(begin, seen - len(stop) + 1))) >= 0
    ]
    first = min(ends, default=None)
    if request.answer is not None:
        tag = prompts.ANSWER_END
        place = text.find(tag, max(begin, seen - len(tag) + 1))
        while place >= 0 and (first is None or place + len(tag) < first):
            if answers.extract(text[begin : place + len(tag)], request.answer) is not None:
                return place + len(tag)
            place = text.find(tag, place + len(tag))
    return first


def cut(request: Request, text: str) -> str:
    """`text` up to its end."""
    return text[: reply_end(request, text)]


def ending_strings(request: Request) -> list[str]:
    """The strings that have a say in where a reply ends: without one of them at its end, it goes on."""
    thought = [request.thought.end] if request.thought else []
    return [*request.stop, *([prompts.ANSWER_END] if request.answer is not None else []), *thought]
