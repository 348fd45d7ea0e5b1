"""Which of the teacher's rationales are kept, by their answers (`elicit.keep`, `regenerate.keep`).

The paper keeps all. A teacher can be wrong, in what it claims with a question and in what it works out; a rationale
that ends in the claimed target, or where most rationales end, is wrong less often.
"""

from collections.abc import Sequence

from arte_plugin.config.elicit import Keep
from arte_plugin.config.tasks import AnswerType
from arte_plugin.language import answers


def majority(given: Sequence[str], kind: AnswerType) -> str | None:
    """The answer that more of `given` are than any other, and at least two (self-consistency, Wang et al., 2023).

    None where two answers are given as often, or every answer once.
    """
    votes: list[list[str]] = []
    for answer in given:
        alike = next((one for one in votes if answers.same(one[0], answer, kind)), None)
        if alike is None:
            votes.append([answer])
        else:
            alike.append(answer)
    votes.sort(key=len, reverse=True)
    if not votes or len(votes[0]) < 2 or (len(votes) > 1 and len(votes[0]) == len(votes[1])):
        return None
    return votes[0][0]


def reason_to_drop(keep: Keep, answer: str, target: str, voted: str | None, kind: AnswerType) -> str | None:
    """Why a rationale with this answer is not kept, or None; `voted` is the majority's answer, if there is one."""
    if keep == "agrees_with_target" and not answers.same(answer, target, kind):
        return "rationale_other_than_target"
    if keep == "majority" and voted is None:
        return "rationale_no_majority"
    if keep == "majority" and not answers.same(answer, voted or "", kind):
        return "rationale_other_than_majority"
    return None


def disagreement_note(pairs: Sequence[tuple[str, str]], kinds: Sequence[AnswerType]) -> str:
    """How many `(answer, target)` differ, for the stage table; empty where none do. `kinds` has one for each."""
    wrong = sum(not answers.same(answer, target, kind) for (answer, target), kind in zip(pairs, kinds, strict=True))
    share = f" ({100 * wrong / len(pairs):.0f} %)" if pairs else ""
    return f"{wrong}{share} answer other than the claimed target" if wrong else ""
