"""What pairings for the student have in common: its own attempts at the questions that it was tuned on."""

from collections.abc import Iterable, Iterator, Sequence

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.data.same_question import strictly
from arte_plugin.language.prompts import ANSWER_BEGIN, ANSWER_END
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Bounds, Evidence
from arte_plugin.rows import Attempt, Dropped, PreferencePair, Question, TailoredExample, content_id

STAGE = "student-dpo"


class AttemptsArgs(Block):
    """Which attempts a pairing for the student is given."""

    samples: int = Field(8, ge=1, description="Sampled attempts of the tuned student at each tailored question.")
    temperature: float = Field(0.7, gt=0, le=5, description="Their sampling temperature.")


def asked(example: TailoredExample) -> Question:
    """The question of an example, as the student is asked it by itself."""
    name = content_id(example.task, strictly(example.question))
    return Question(name, example.task, example.question, example.target)


def of_questions(evidence: Evidence) -> Iterator[tuple[Question, TailoredExample, list[Attempt]]]:
    """Each question of the arm at hand once, with its example and the attempts at it, in the order of the samples."""
    attempts: dict[str, list[Attempt]] = {}
    for one in evidence.attempts:
        attempts.setdefault(one.question_id, []).append(one)
    seen: set[str] = set()
    for examples in evidence.examples.values():
        for example in examples:
            question = asked(example)
            if question.question_id not in seen:
                seen.add(question.question_id)
                yield question, example, sorted(attempts.get(question.question_id, []), key=lambda one: one.sample)


def calls(samples: int, sizes: Sizes) -> Iterable[Work]:
    """So many replies of the student to each tailored question."""
    of, count = sizes.student, sizes.examples * samples
    prompt = of.chat + of.before + of.question + of.frame
    yield Work(
        STAGE, "attempts", "student", count, count * prompt, count * prompt, count * of.reply, count * of.reply
    )  # fmt: skip


def written(attempt: Attempt) -> str | None:
    """The attempt up to the tag that closes its answer; None where it has none: it was read some other way, or cut."""
    text = attempt.response.strip()
    end = text.rfind(ANSWER_END)
    return text[: end + len(ANSWER_END)] if end > text.find(ANSWER_BEGIN) >= 0 else None


def dropped(reason: str, question: Question, name: str = "", text: str = "") -> Dropped:
    """What made no pair, and why; the reason is counted to the level of rationales."""
    return Dropped(STAGE, f"rationale_{reason}", question.task, name or question.question_id, text or question.question)


def paired(
    question: Question, example: TailoredExample, chosen: tuple[str, str], rejected: tuple[str, str], bounds: Bounds
) -> PreferencePair | Dropped:
    """One pair of (id, text) each, behind the plain prompt that the student was tuned on."""
    name = f"s-{content_id(question.question_id, chosen[0], rejected[0])}"
    if chosen[1].strip() == rejected[1].strip():
        return dropped("same_text", question, rejected[0])
    if not all(bounds.fits(example.prompt, text) for _, text in (chosen, rejected)):
        return dropped("too_long", question, name)
    return PreferencePair(
        pair_id=name,
        level="rationale",
        task=question.task,
        prompt=example.prompt,
        chosen=chosen[1].strip(),
        rejected=rejected[1].strip(),
        # Right and wrong: nothing else is known of them.
        chosen_score=1.0,
        rejected_score=0.0,
        chosen_id=chosen[0],
        rejected_id=rejected[0],
    )


def readable(attempts: Sequence[Attempt], question: Question) -> tuple[list[tuple[Attempt, str]], list[Dropped]]:
    """The attempts that closed their answer's tag, with their text, and the others as what was dropped."""
    kept, lost = [], []
    for one in attempts:
        text = written(one)
        if text is None or one.outcome == "unparsed":
            lost.append(dropped("unparsed", question, one.attempt_id, one.response))
        else:
            kept.append((one, text))
    return kept, lost
