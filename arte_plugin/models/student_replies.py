"""A student's replies to questions, for probes, respondents and the test alike: as they came, or asked for an answer.

A reply without an answer that can be read says little of what the student knows: it may have been cut off, or may not
have copied the form. `probe.ask_again` has such a reply continued with the answer's tag begun, the second prompt of
zero-shot chain of thought (Kojima et al., 2022, section 3.1). Not in the paper.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from arte_plugin.engines.base import Completion, Request
from arte_plugin.language import answers, prompts

#: Longest answer, in tokens, that a student is asked for behind its own reply.
ANSWER_TOKENS = 32

#: Completes requests, in their order.
Ask = Callable[[Sequence[Request]], Sequence[Completion]]


@dataclass(frozen=True)
class StudentReply:
    """What a student said in the end."""

    text: str
    #: Of what it wrote by itself: `length` where it was cut off.
    finish: Literal["stop", "length"]
    #: All that were generated for it.
    new_tokens: int
    asked_again: bool = False


def student_replies(
    requests: Sequence[Request], completions: Sequence[Completion], ask_again: Ask | None
) -> list[StudentReply]:
    """What the `completions` of `requests` come to; with `ask_again`, the unreadable ones are continued by it."""
    again = {}
    if ask_again is not None:
        for place, (request, one) in enumerate(zip(requests, completions, strict=True)):
            if request.answer is not None and answers.extract(one.text, request.answer) is None:
                again[place] = _asked_again(request, one)
    answered = ask_again(list(again.values())) if again and ask_again is not None else []
    continued = dict(zip(again, answered, strict=True))
    replies = []
    for place, one in enumerate(completions):
        text, new_tokens = one.text, one.new_tokens
        if (more := continued.get(place)) is not None:
            text = _begun(one) + prompts.closed_answer(more.text)
            new_tokens += more.new_tokens
        replies.append(StudentReply(text, one.finish, new_tokens, place in continued))
    return replies


def _begun(completion: Completion) -> str:
    """The reply with its answer begun; a question that the student went on to is no part of it."""
    return completion.text.split(prompts.NEXT_QUESTION)[0].rstrip() + prompts.ANSWER_PREFILL


def _asked_again(request: Request, completion: Completion) -> Request:
    return replace(
        request,
        prompt=request.prompt + _begun(completion),
        max_new_tokens=ANSWER_TOKENS,
        stop=prompts.ANSWER_STOP,
        answer=None,
        thought=None,
    )
