"""What is asked of a model, what comes back, and how requests are put into batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Protocol, runtime_checkable

from arte_plugin.language.answer_types import AnswerType


@dataclass(frozen=True)
class Thought:
    """What a reasoning model writes before its reply: free of stop strings, and with tokens of its own."""

    #: The text that ends it, such as `</think>`; a special token's will do.
    end: str
    #: The most tokens up to that end; a reply whose thought is longer is over, cut off.
    max_tokens: int


@dataclass(frozen=True)
class Request:
    """One completion to be made.

    `prompt` is the full rendered text, special tokens included: engines tokenise it without adding any.
    Requests with the same `group` share a long prefix (the probes of one draft).
    """

    prompt: str
    group: str
    max_new_tokens: int
    #: 0 is greedy.
    temperature: float
    #: Decides a sampled completion together with the prompt; without meaning at temperature 0.
    seed: int
    #: Generation ends as soon as one of these strings is complete; it stays in the text.
    stop: tuple[str, ...] = ()
    #: Also behind a closing answer tag, once the reply holds an answer of this type that can be read.
    answer: AnswerType | None = None
    #: Whether a thought comes first; `stop`, `answer` and `max_new_tokens` then are of what follows on it, and the text
    #: keeps its special tokens, by which the one is told from the other.
    thought: Thought | None = None

    @property
    def most_new_tokens(self) -> int:
        """Tokens of the longest reply, its thought among them."""
        return self.max_new_tokens + (self.thought.max_tokens if self.thought else 0)


@dataclass(frozen=True)
class TokenRequest(Request):
    """A request whose prompt is tokens already, as somebody else makes them of a text: lm-eval, for one."""

    tokens: tuple[int, ...] = ()
    #: Tokens that end the reply beside the model's own, and are no part of it: stop strings that are special tokens,
    #: which no text shows.
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Completion:
    """What the model wrote: special tokens left out (see `Request.thought`), the stop string kept."""

    text: str
    #: `stop`: a stop string, an answer or the end-of-sequence token; `length`: the tokens ran out.
    finish: Literal["stop", "length"]
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class Reply:
    """A reply that is given, not generated: how likely is `text` behind `prompt` (both rendered, as in `Request`)?"""

    prompt: str
    text: str
    #: As in `Request`.
    group: str


@dataclass(frozen=True)
class Likelihood:
    """The natural logarithm of a reply's probability, its length and the whole text's, in tokens."""

    log_probability: float
    tokens: int
    all_tokens: int


@dataclass(frozen=True)
class Continuation:
    """Tokens behind other tokens, of which there is at least one: how likely are they?"""

    context: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Weighed:
    """The natural logarithm of a continuation's probability, and whether it is what greedy decoding would write."""

    log_probability: float
    greedy: bool


#: Is told of a completion, and of its place in the batch.
Keep = Callable[[int, Completion], None]


class Engine(Protocol):
    """Who runs the model."""

    def generate(self, batch: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        """Complete `batch`, in its order. The outcome depends on the batch alone, not on what was asked before.

        `keep` hears of each completion as soon as it is there.
        """

    def report(self) -> str:
        """How fast the requests since the last report were answered, in words; empty for nothing to tell."""

    def close(self) -> None:
        """Give back the memory."""


@runtime_checkable
class Weighs(Protocol):
    """An engine that can tell how likely a reply is, not only write one."""

    def likelihoods(self, batch: Sequence[Reply]) -> list[Likelihood]:
        """How likely the model finds each of `batch`, in its order."""


@runtime_checkable
class Describes(Protocol):
    """An engine that can tell what the model that it runs really is, whatever the config asked for."""

    def describe(self) -> dict[str, Any]:
        """Attention, precision, linear layers by type, quantisation, and how it is run."""


def plan_batches(requests: Sequence[Request], batch_size: int) -> list[list[Request]]:
    """Put `requests` into batches of at most `batch_size`: whole groups of siblings, then the rest by length.

    Only a group larger than a batch is split. The plan depends on nothing but the requests. A run that was
    interrupted, or that is shared among ranks, makes the same batches as one that was not, so every completion is the
    same to the last bit.
    """
    by_group = [sorted(siblings, key=_length) for _, siblings in groupby(sorted(requests, key=_group), key=_group)]
    families = [siblings for siblings in by_group if len(siblings) > 1]
    singles = sorted((one for siblings in by_group if len(siblings) == 1 for one in siblings), key=_length)
    batches: list[list[Request]] = []
    for siblings in families:
        if not batches or len(batches[-1]) + len(siblings) > batch_size:
            batches.append([])
        for request in siblings:
            if len(batches[-1]) == batch_size:
                batches.append([])
            batches[-1].append(request)
    return batches + [singles[start : start + batch_size] for start in range(0, len(singles), batch_size)]


def plan_queue(requests: Sequence[Request], batch_size: int) -> list[list[Request]]:
    """Put `requests` into batches for a server, which makes batches of its own from whatever is in flight.

    Siblings of one group follow each other, so that the server's prefix cache still holds what they share; a batch
    mixes groups.
    """
    ordered = [request for batch in plan_batches(requests, max(1, len(requests))) for request in batch]
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def _group(request: Request) -> str:
    return request.group


def _length(request: Request) -> tuple[int, str, int]:
    return len(request.prompt), request.prompt, request.seed
