"""What is read off the tokens of a reply. No library is needed: some contenders have environments of their own."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """One reply."""

    text: str
    #: Tokens that were generated, those behind the reply's end included.
    new_tokens: int
    #: Of these, tokens behind the end of the reply: generated for nothing.
    extra_tokens: int = 0


def read_reply(
    tokens: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    *,
    stop: Sequence[str],
    ends: Collection[int],
    fixed: bool,
    pad: int | None = None,
) -> Output:
    """The reply in generated tokens: up to one of `ends`, or to the end of the first string of `stop`.

    With `fixed` all of them are the reply. With `pad`, those behind it are no part of what was generated for it.
    """
    if fixed:
        return Output(decode(tokens), len(tokens))
    over = [i for i, token in enumerate(tokens) if token in ends or token == pad]
    written = over[0] if over else len(tokens)
    text = decode(tokens[:written])
    stops = [text.index(one) + len(one) for one in stop if one in text]
    if not stops:
        return Output(text, min(written + 1, len(tokens)))
    text = text[: min(stops)]
    needed = next(n for n in range(1, written + 1) if decode(tokens[:n]).startswith(text))
    generated = written if pad is not None else len(tokens)
    return Output(text, generated, generated - needed)
