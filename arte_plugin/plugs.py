"""The plug points: what a strategy of each kind is given, and what it gives back.

A strategy is one file: a block of settings, a class, and a line in the plain dictionary of its package. A user's own is
named in the YAML by its import path, `my_package.my_signal:Surprise`, and lies wherever Python finds it.

| package | the question that it answers |
|---|---|
| `signals` | what is a draft, or a question, worth to this student? |
| `pairings` | which preference pairs follow from that? |
| `planners` | what is the teacher asked for next? |
| `operators` | how is it asked, and what rows does the reply make? |
| `selectors` | which examples stay, and in what form? |
| `diagnostics` | what must a reader know before believing a result? |

What keeps a strategy safe: it opens no model and no file (models are reached through `Asking`, which caches, counts and
shares the work among ranks); whatever it drops, it drops with a reason; it asks the same in the same order whatever
interrupted the run before (`Asking.rng`, never a clock or a set's order); what is meant for the teacher (`Order.notes`)
never reaches a student; its settings and its `version` are among the inputs of the stage that it works in.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from arte_plugin.config.block import Block
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Likelihood, Reply
from arte_plugin.language.answer_types import AnswerType
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.rows import (
    AnswerLikelihood,
    Attempt,
    Draft,
    Dropped,
    Measure,
    Order,
    PreferencePair,
    PreferenceQuestion,
    Probe,
    Question,
    Response,
    Result,
    TailoredExample,
)  # fmt: skip

if TYPE_CHECKING:
    from arte_plugin.stages.shrinkage import Shrunken

#: A table: a row a list of cells, the head first.
Lines = Sequence[Sequence[str]]


class NoSettings(Block):
    """A strategy without settings."""


class Plug(Protocol):
    """What strategies of all kinds have in common. An instance is made once a run, of its settings."""

    #: Its keys in the YAML with defaults, bounds and descriptions: docs/configuration.md is made from them.
    Settings: ClassVar[type[Block]]
    #: Raised when the same inputs come out otherwise; it is among the inputs of the stage.
    version: ClassVar[int]
    #: What it asks of whom, in a few words, for the table of docs/strategies.md: `nothing`, `the student: 8 replies a
    #: question`. The same in figures is `calls`. What it does is said by the first line of the class's docstring.
    costs: ClassVar[str]

    def __init__(self, settings: Any) -> None: ...

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """What it asks of models for one task of these sizes, beyond what the stage asks without it.

        Of students: what it asks of one. Where there are several, stages 3 and 6 count each.
        """
        ...


class Asked(Protocol):
    """A model as a strategy sees it."""

    name: str

    @property
    def renderer(self) -> Any:
        """How prompts and replies become text: `language.rendering.Renderer`."""
        ...


class Asking(Protocol):
    """The only door to models: what is asked is cached, counted, shared among ranks and the same on each of them.

    Nothing is loaded before something is asked that is not in the cache. One model at a time holds the machine: ask
    all of one, for all that you need, before you ask another.
    """

    #: The stage that it is asked in, as its requests' seeds are made of it: `probe`, `regenerate`.
    stage: str
    seed: int

    @property
    def teacher(self) -> Asked:
        """The teacher that this stage asks: as it was in stage 3, the aligned one in stage 6 and behind it."""
        ...

    @property
    def before(self) -> Asked:
        """The teacher as it was before its alignment, in stages behind that; elsewhere the same as `teacher`."""
        ...

    @property
    def student(self) -> Asked:
        """The student at hand, where a strategy is called once for each; otherwise the first."""
        ...

    @property
    def students(self) -> Sequence[Asked]:
        """All of them."""
        ...

    def probes(self, task: Task, cells: Sequence[tuple[Draft, PreferenceQuestion]]) -> list[Probe]:
        """The answers of the student at hand to each question with the draft as its one example (paper, eq. 3)."""
        ...

    def attempts(
        self, who: Asked, task: Task, questions: Sequence[Question], *, samples: int = 0, temperature: float = 0.7,
        greedy: bool = True,
    ) -> list[Attempt]:  # fmt: skip
        """Who's own answers to questions without any example: the greedy one, and `samples` sampled ones behind it."""
        ...

    def likelihoods(self, who: Asked, replies: Sequence[Reply], what: str) -> list[Likelihood]:
        """How likely each reply is. Raises `ConfigError` where a server stands in for the model."""
        ...

    def texts(
        self, who: Asked, prompts: Sequence[str], *, what: str, max_new_tokens: int, temperature: float = 0.0
    ) -> list[Completion]:
        """Replies to prompts given as plain text: the model's own chat template is put around them."""
        ...

    def rng(self, *parts: str) -> random.Random:
        """Chance that only the run's seed and `parts` decide."""
        ...


def _none() -> Iterator[Any]:
    return iter(())


@dataclass(frozen=True)
class Evidence:
    """What is there already of one task: to read it asks nobody. Empty where the stage comes before it is made."""

    responses: Sequence[Response] = ()
    drafts: Sequence[Draft] = ()
    preference_set: Sequence[PreferenceQuestion] = ()
    #: Of the student at hand; each call begins anew, for they may be too many to be held.
    probes: Callable[[], Iterator[Probe]] = _none
    measures: Sequence[Measure] = ()
    attempts: Sequence[Attempt] = ()
    #: s_r by draft id (`Scored.drafts`).
    scores: Mapping[str, float] = field(default_factory=dict)
    #: Tailored examples of this run by arm, and those that earlier rounds left to be kept.
    examples: Mapping[str, Sequence[TailoredExample]] = field(default_factory=dict)
    kept: Sequence[TailoredExample] = ()
    pairs: Sequence[PreferencePair] = ()
    #: What went no further, of all stages that are done.
    dropped: Sequence[Dropped] = ()
    #: What stages have found, whole and by their names (`preference-set`, `pair`, `align-check`): the JSON beside their
    #: rows. The same for every task.
    reports: Mapping[str, Any] = field(default_factory=dict)


class Signal(Plug, Protocol):
    """What a draft, or a question, is worth to a student. It works in stage 3, once for each student and task.

    One that reads `evidence.probes` says so in its class, `probes = True`: only then are they made. One that asks for
    likelihoods says `likelihoods = True`: beside a server, which can't tell them, it is refused at once.
    """

    #: `draft`: its measures make s_r; `question`: they make s_q, which otherwise is the mean of a question's s_r.
    of: ClassVar[Literal["draft", "question"]]

    def measure(
        self, task: Task, drafts: Sequence[Draft], preference_set: Sequence[PreferenceQuestion], evidence: Evidence,
        asking: Asking,
    ) -> Iterator[Measure | AnswerLikelihood]:  # fmt: skip
        """One measure for each draft (or question) that it has something to say of, under the signal's own name.

        A draft that it says nothing of is left out of the pairs, and counted. The likelihoods that it took a mean of
        may come as well: they are kept for what chance makes of it.
        """
        ...


@dataclass(frozen=True)
class Scored:
    """What pairings read, higher is better: the weighted mean of the signals, and of the students."""

    drafts: Mapping[str, float]
    questions: Mapping[str, float]
    #: The scores shrunk to what is usual in the task, each with its variance; worked out when asked for.
    beliefs: "Callable[[], Shrunken]"


@dataclass(frozen=True)
class Bounds:
    """What holds for every pairing, whichever is chosen (`arte.pair`)."""

    seed: int
    #: Whether a prompt and a completion fit into the teacher's `sequence_len`.
    fits: Callable[[str, str], bool]
    #: What an answer of the task is; None where this run doesn't know the task (published drafts).
    answer: AnswerType | None
    #: Pairs of each level at most, and the least gap that makes one.
    question_pairs: int
    rationale_pairs: int
    margin: float


class Pairing(Plug, Protocol):
    """Which preference pairs follow, of one task. It asks nobody.

    One for the student is given no drafts and no scores: it reads `evidence.examples` of the arm at hand, and in
    `evidence.attempts` what the student tuned on them answered, `settings.samples` times at `settings.temperature`
    (`pairings.attempts.AttemptsArgs`).
    """

    #: Whose training the pairs are for: the teacher's DPO (stage 5) or the student's (`student.dpo`).
    trains: ClassVar[Literal["teacher", "student"]]

    def pairs(
        self, task: str, drafts: Sequence[Draft], scored: Scored, evidence: Evidence, bounds: Bounds,
        rng: random.Random,
    ) -> Iterator[PreferencePair | Dropped]:  # fmt: skip
        """The pairs, and with its reason what might have been one. `task` is the name: drafts may be another run's.

        A reason begins with the level (`question_tie`), which is what stage 4 counts it to.
        """
        ...


class Planner(Plug, Protocol):
    """What the teacher is asked for next. Planners are chained: each is given the orders of the one before.

    One that asks for likelihoods says `likelihoods = True`, as a signal does; so does a selector.
    """

    #: The operators that its own orders name, in the YAML's words: their versions are among the inputs of the stage.
    operators: ClassVar[Sequence[str]]

    def plan(
        self, tasks: Sequence[Task], orders: Iterable[Order], evidence: Mapping[str, Evidence], asking: Asking,
        wanted: Mapping[str, int],
    ) -> Iterator[Order]:  # fmt: skip
        """Orders without end, or as many as there are: they are taken until each task has its questions.

        `orders` are those of the planner before (of the first: none); `evidence` is by task, and so is `wanted`, the
        questions that the stage is to bring home, before selectors. An order for another task than the one whose turn
        it is waits.
        """
        ...


@runtime_checkable
class Shares(Protocol):
    """What a planner may have besides: it says how the questions are shared among the tasks, before any is planned."""

    def shares(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], asking: Asking, wanted: Mapping[str, int]
    ) -> Mapping[str, int]:
        """By task what `Planner.plan` is then given as `wanted`; in all it is as much as before."""
        ...


@runtime_checkable
class PerOrder(Protocol):
    """What a planner may have besides: how many questions an order of its own asks for, for `arte plan`."""

    def per_order(self) -> int:
        """`Order.wanted`; without it as many as `elicit.questions_per_prompt`."""
        ...


class Operator(Plug, Protocol):
    """One order as words, and the reply to it as rows. Text only: it knows no model."""

    #: `questions`: each of its replies may hold several new ones; `rationale`: one for `Order.parent`.
    makes: ClassVar[Literal["questions", "rationale"]]

    def prompt(self, task: TaskArgs, order: Order) -> str:
        """What the teacher reads, as plain text."""
        ...

    def begun(self, task: TaskArgs, order: Order) -> str:
        """How its reply is begun for it where `elicit.prefill` is on; empty for not at all. `read` is given all."""
        ...

    def read(self, task: TaskArgs, order: Order, reply: str) -> Iterator["NewQuestion | NewRationale | Unread"]:
        """What a reply holds. It drops by `Unread`, never silently."""
        ...


@dataclass(frozen=True)
class NewQuestion:
    """A question that the teacher wrote, and the answer that it claims."""

    question: str
    target: str
    #: What stood before it in the reply.
    begun: str = ""


@dataclass(frozen=True)
class NewRationale:
    """A rationale, as it came; whether it ends in an answer that can be read is seen to behind it."""

    rationale: str


@dataclass(frozen=True)
class Unread:
    """A part of a reply that makes no row, and why: the counts call it `question_REASON` or `rationale_REASON`."""

    reason: str
    text: str


class Selector(Plug, Protocol):
    """Which examples stay, in what order, with which target. Selectors are chained.

    One that chooses among what an operator made names that in `waits_for`: an arm without it is refused.
    """

    def select(
        self, task: Task, examples: Sequence[TailoredExample], evidence: Evidence, asking: Asking
    ) -> Iterator[TailoredExample | Dropped]:
        """The examples that stay, and what doesn't with its reason."""
        ...


class Diagnostic(Plug, Protocol):
    """A table that belongs beside a result. It works behind the evaluation; what it asks is cheap, or in the cache."""

    title: ClassVar[str]

    def table(
        self, tasks: Sequence[Task], evidence: Mapping[str, Evidence], results: Sequence[Result], asking: Asking
    ) -> Lines:
        """The table, its head first: a figure stands beside what chance gives, with n and an interval."""
        ...
