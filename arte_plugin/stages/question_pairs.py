"""What a question-level pair is made of: where in a reply its two questions stand, and whose prompt that was.

The teacher writes several questions a call, the fourth behind the three before it. A question is trained where it was
written: its prompt is the question-generation prompt with the reply up to there, which is not trained on itself.

- Two questions of one call (or of two calls that began alike) stand behind what they share: the earlier one where it
  was written, the other in its place, under its number. Both are the teacher's own next words, or nearly.
- Two of different calls have one prompt too few. Half of these pairs take the chosen one's, half the rejected one's:
  were it always the chosen one's, what tells the two apart would be which of them was written for the prompt.
- Neither ends the reply. Behind one of five questions the teacher goes on to the next, and would be taught to stop.
"""

from typing import Literal, TypedDict

from arte_plugin.language import prompts
from arte_plugin.language.question_tags import place_behind
from arte_plugin.rows import Draft


class Texts(TypedDict):
    """The texts of a pair."""

    prompt: str
    begun: str
    chosen: str
    rejected: str
    prompt_of: Literal["both", "chosen", "rejected"]


def share_a_beginning(one: Draft, other: Draft) -> bool:
    """Whether what the teacher had seen and written before one of two questions begins what it had before the other."""
    earlier, later = sorted((one.question_begun, other.question_begun), key=len)
    return one.question_prompt == other.question_prompt and later.startswith(earlier)


def texts(chosen: Draft, rejected: Draft, turn: Literal["chosen", "rejected"]) -> Texts:
    """The texts of a pair; `turn` says whose prompt it is where the two share none."""
    prompt_of: Literal["both", "chosen", "rejected"] = "both" if share_a_beginning(chosen, rejected) else turn
    place = chosen if prompt_of == "chosen" else rejected
    if prompt_of == "both":
        place = min(chosen, rejected, key=lambda draft: len(draft.question_begun))
    # The prompt shows so many questions, and the reply has gone on from there.
    number = place.question_prompt.count("<input>") + place_behind(place.question_begun) + 1
    return Texts(
        prompt=place.question_prompt,
        begun=place.question_begun,
        chosen=prompts.tagged_question(number, chosen.question, chosen.target),
        rejected=prompts.tagged_question(number, rejected.question, rejected.target),
        prompt_of=prompt_of,
    )


def prompts_note(prompts_of: list[str]) -> str:
    """Whose prompts the pairs have, for the stage table."""
    shares = {"both": "share a call", "chosen": "the chosen one's prompt", "rejected": "the rejected one's"}
    counts = {said: prompts_of.count(whose) for whose, said in shares.items()}
    return ", ".join(f"{count} {said}" for said, count in counts.items() if count)
