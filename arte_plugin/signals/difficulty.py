"""Perplexities of a question and its rationale, with and without one another, under the student.

IFD, instruction-following difficulty, is of Cherry LLM (Li et al., arXiv 2308.12032); the two ratios in the form used
here are of Selective Reflection-Tuning (Li et al., arXiv 2402.10110).
"""

import math
from collections.abc import Sequence
from typing import Literal

from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Likelihood, Reply
from arte_plugin.language import prompts
from arte_plugin.plugs import Asked, Asking

#: A question and a rationale for it.
Solved = tuple[str, str]
#: Of what the ratio is: of perplexities, or of their logarithms, the mean losses of a token.
Ratio = Literal["perplexity", "loss"]


def ifd(asking: Asking, who: Asked, task: Task, pairs: Sequence[Solved], ratio: Ratio = "perplexity") -> list[float]:
    """ppl(rationale | question) / ppl(rationale) of each pair: above 0, from 1 on the question is no help.

    With `ratio: loss`, the losses' ratio, which is that of Cherry LLM: it reaches 1 with the other, and spreads wider
    where both texts are likely.
    """
    render = who.renderer
    replies = []
    for question, rationale in pairs:
        shown = render.prompt(prompts.solve_prompt(task.args.description, task.args.answer, question))
        text = render.part_of_reply(rationale)
        replies += [Reply(shown, text, f"ifd/{task.name}"), Reply(nothing(who), text, f"alone/{task.name}")]
    return _ratios(asking.likelihoods(who, replies, f"IFD {task.name}"), ratio)


def reversed_ifd(
    asking: Asking, who: Asked, task: Task, pairs: Sequence[Solved], ratio: Ratio = "perplexity"
) -> list[float]:
    """ppl(question | rationale) / ppl(question): how much the rationale tells of its question, the less the more."""
    render = who.renderer
    replies = []
    for question, rationale in pairs:
        shown = render.prompt(guess_prompt(rationale))
        text = render.part_of_reply(question)
        replies += [Reply(shown, text, f"reversed/{task.name}"), Reply(nothing(who), text, f"alone/{task.name}")]
    return _ratios(asking.likelihoods(who, replies, f"reversed IFD {task.name}"), ratio)


def guess_prompt(rationale: str) -> str:
    """Ask for the question that a rationale answers; how likely it then is, `reversed_ifd` tells."""
    return f"Here is the answer to a question:\n{rationale}\n\nGuess which question it answers, and write it down."


def nothing(who: Asked) -> str:
    """What stands before a text that stands alone: an empty turn, or what a text begins with."""
    empty = who.renderer.prompt("")
    # Behind nothing at all the first token's probability is not defined; texts follow on the end of others.
    return empty or who.renderer.end_of_reply


def _ratios(found: Sequence[Likelihood], ratio: Ratio) -> list[float]:
    """Of each two that follow one another; each is over the tokens of its own."""
    losses = [-one.log_probability / one.tokens for one in found]
    pairs = zip(losses[::2], losses[1::2], strict=True)
    if ratio == "perplexity":
        return [math.exp(given - alone) for given, alone in pairs]
    # A text that is certain by itself has nothing left to be told.
    return [given / alone if alone > 0 else 1.0 for given, alone in pairs]
