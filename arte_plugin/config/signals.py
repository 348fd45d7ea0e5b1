"""`arte.signals`: what stage 3 scores drafts by, read as strategies, and what `probe.score` says in their words."""

from collections.abc import Sequence
from typing import Any, Literal

from arte_plugin.config.plugs import Chosen, chosen_all
from arte_plugin.signals.answers import Answers
from arte_plugin.signals.likelihood import AnswerLikelihoods
from arte_plugin.signals.neighbours import Neighbours

#: What `probe.score` may say.
Score = Literal["answers", "likelihood", "likelihood_without_rationale"]

#: The entry of `signals` that is meant by it.
ENTRIES: dict[Score, Any] = {
    "answers": "answers",
    "likelihood": "likelihood",
    "likelihood_without_rationale": {"likelihood": {"rationale": False}},
}


def read_signals(entries: Sequence[Any]) -> list[Chosen]:
    """The signals that are named. Raises `ValueError` as `chosen_all` does, and where no draft would get a score."""
    signals = chosen_all("signals", entries)
    names = [one.name for one in signals]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"`{name}` stands there twice, with other settings: its measures could not be told apart")
    if all(of(one) == "question" for one in signals):
        raise ValueError(
            f"{', '.join(f'`{name}`' for name in names)} scores questions only, and rationales need a score too: add "
            f"a signal of drafts, `signals: [answers, {', '.join(names)}]`"
        )
    return signals


def resident(signals: Sequence[Chosen]) -> Score | None:
    """What of `probe.score` these signals are, or None. A weight means nothing where there is one alone."""
    if len(signals) != 1:
        return None
    [only] = signals
    if only.kind is Answers:
        return "answers"
    if only.kind is AnswerLikelihoods:
        return "likelihood" if only.settings.rationale else "likelihood_without_rationale"
    return None


def settled(entries: Sequence[Any], score: Score, given: bool) -> tuple[list[Any], Score]:
    """`signals` and `probe.score`, saying the same; `given`: whether the YAML has `signals`.

    Raises `ValueError` where it has both, and they don't.
    """
    said = resident(read_signals(entries))
    if score == "answers" or said == score:
        return list(entries), said or "answers"
    if given:
        entry = "{likelihood: {rationale: false}}" if score == "likelihood_without_rationale" else score
        raise ValueError(
            f"`probe.score: {score}` and `signals` both say what a draft's score is made of: leave out `probe.score`. "
            f"For the same, write `signals: [{entry}]`, with others beside it if you mean them"
        )
    return [ENTRIES[score]], score


def misfits(
    signals: Sequence[Chosen], *, served: bool, racing: bool, consistency: bool, shrunken: bool, size: int | None
) -> str | None:  # fmt: skip
    """What else the config asks for that these signals can't give, in words; None where all is well.

    `served`: students by a server; `racing`: `probe.budget: racing`; `consistency`: a check of the preference set;
    `shrunken`: `pair.min_probability`; `size`: questions of a preference set, None where that is not known yet.
    """
    said = resident(signals)
    names = ", ".join(one.name for one in signals)
    written = f"probe.score: {said}" if said and said != "answers" else f"signals: [{names}]"
    likelihoods = [one.name for one in signals if reads_likelihoods(one)]
    if served and likelihoods:
        return (
            f"`{written}` needs the student in this process: a server doesn't tell how likely a reply is. Leave out "
            f"`engine.student`, or set `probe.score: answers` without {', '.join(f'`{one}`' for one in likelihoods)}"
        )
    if racing and said != "answers":
        return f"`probe.budget: racing` decides by the paper's score alone, and not by `{written}`: set `budget: full`"
    if consistency and not any(one.kind is Answers for one in signals):
        return f"`preference_set.consistency_questions` are checked by the probes, which `{written}` doesn't make"
    if shrunken and said is None:
        return (
            f"`pair.min_probability` goes by the noise of a score, which isn't known for `{written}`: leave it out, or "
            "score by `answers` or `likelihood` alone"
        )
    for one in signals:
        if one.kind is Neighbours and size is not None and one.settings.nearest >= size:
            return (
                f"the signal `neighbours` takes the {one.settings.nearest} `nearest` of {size} preference questions, "
                f"which is all of them and the same as `answers`: lower `nearest`, to {max(1, size // 2)} say"
            )
    return None


def of(one: Chosen) -> str:
    """What it measures: `draft` or `question`."""
    return getattr(one.kind, "of", "draft")


def reads_probes(one: Chosen) -> bool:
    """Whether stage 3 has to make the probes for it."""
    return bool(getattr(one.kind, "probes", False))


def reads_likelihoods(one: Chosen) -> bool:
    """Whether it asks a model how likely a reply is, which a server can't tell."""
    return bool(getattr(one.kind, "likelihoods", False))


def weight(one: Chosen) -> float:
    """How much it counts."""
    return float(getattr(one.settings, "weight", 1.0))


def signal_lines(signals: Sequence[Chosen]) -> list[str]:
    """Which signals count, how much, and what they cost, a line each; empty for the paper's alone."""
    if resident(signals) == "answers":
        return []
    lines = []
    for what in ("draft", "question"):
        some = [one for one in signals if of(one) == what]
        total = sum(map(weight, some))
        lines += [
            f"signal {one.name}: {100 * weight(one) / total:.0f} % of a {what}'s score (costs: {one.kind.costs})"
            for one in some
        ]
    return lines
