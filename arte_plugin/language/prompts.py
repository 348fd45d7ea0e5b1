"""Every word that a model is shown.

Three prompts carry the whole method (paper, section 3 and appendix F):

- `question_prompt`: the teacher writes new questions from a few seed questions;
- `technique_prompt`: the teacher writes a rationale in one of several ways;
- `solve_prompt`: a plain step-by-step prompt. The student is probed, trained and evaluated with it, and it
  is what remains of the technique prompt after prompt erasure, so teacher and student share it to the letter.

What is returned here is the text *inside* a chat turn, or the plain text for a base model; `rendering.py`
puts the chat template around it.
"""

from collections.abc import Sequence

#: Around every answer.
ANSWER_BEGIN, ANSWER_END = "<ans>", "</ans>"

#: A base model that has answered tends to write the next question itself; nothing after this belongs to the answer.
NEXT_QUESTION = "\nQuestion:"

#: Where a generated rationale ends, whoever writes it: here, or behind its answer (`Request.answer`).
RATIONALE_STOP = (NEXT_QUESTION,)

#: Put behind a rationale that ended without an answer, for the teacher to give one; when `elicit.prefill` is on.
ANSWER_PREFILL = f"\nSo the answer is {ANSWER_BEGIN}"

#: Where such an answer ends: a teacher that did not open the tag need not close it.
ANSWER_STOP = (ANSWER_END, "\n")

STEP_BY_STEP = "Let's think step by step."

#: Said behind the request for the tags, by `answer` type of the task; the other types need no more words.
ANSWER_FORMS = {
    "choice": ": the letter of the right option, such as (A)",
    "number": ": a number, without units",
}

#: Used for a task that names no techniques: ways of reasoning that fit any question with one right answer.
DEFAULT_TECHNIQUES = {
    "step_by_step": "Solve it in small steps, one step on each line, and write down the result of every step.",
    "split": "Split the question into parts, name the parts, settle each of them, then put the results together.",
    "rule_first": "First state the rule that decides the question, then apply it.",
    "solve_then_check": "Solve it in one go, then check the result before you give it.",
}


def question_prompt(description: str, seeds: Sequence[tuple[str, str]], questions: int) -> str:
    """The question-generation prompt: the task, the seed questions, and a request for `questions` new ones.

    `seeds` are `(question, target)` pairs; numbering of the new questions goes on after them (paper, appendix F).
    """
    first = len(seeds) + 1
    shown = "\n".join(tagged_question(i, question, target) for i, (question, target) in enumerate(seeds, 1))
    return (
        f"{description}\n\n"
        f"Here are {len(seeds)} questions of this kind, each with its answer:\n{shown}\n\n"
        f"Write {questions} new questions of the same kind, unlike these and unlike one another, each with its right "
        f"answer, in the same form, from <Question_{first}> to <Question_{first + questions - 1}>."
    )


def tagged_question(number: int, question: str, target: str) -> str:
    """One question in the form in which the teacher sees and writes it."""
    return f"<Question_{number}><input>{question}</input><target>{target}</target></Question_{number}>"


def question_prefill(seeds: int) -> str:
    """How the reply to `question_prompt` must begin; put in the teacher's mouth when `elicit.prefill` is on."""
    return f"<Question_{seeds + 1}><input>"


def technique_prompt(description: str, technique: str, answer: str, question: str) -> str:
    """Ask the teacher for a rationale in the way that `technique` (an instruction) says."""
    return f"{_task(description, answer)}\n{technique}\n\nQuestion: {question}\nAnswer:"


def solve_prompt(description: str, answer: str, question: str, examples: Sequence[tuple[str, str]] = ()) -> str:
    """The plain step-by-step prompt, with `examples` as `(question, rationale)` pairs in front of the question."""
    return solve_prefix(description, answer, examples) + solve_rest(question)


def solve_prefix(description: str, answer: str, examples: Sequence[tuple[str, str]] = ()) -> str:
    """All of `solve_prompt` before its question: what the probes of one draft share."""
    shown = "".join(f"{solve_rest(question)} {rationale}\n\n" for question, rationale in examples)
    return f"{_task(description, answer)}\n\n{shown}"


def solve_rest(question: str) -> str:
    """The part of `solve_prompt` that differs from one probe of a draft to the next."""
    return f"Question: {question}\nAnswer: {STEP_BY_STEP}"


def bare_rationale(target: str) -> str:
    """The rationale of a few-shot example that has none of its own: it shows the form of the answer, no more."""
    return f"The answer is <ans>{target}</ans>"


def closed_answer(reply: str) -> str:
    """What follows on `ANSWER_PREFILL`: the answer on the reply's line, and the tag that ends it."""
    return reply.split(ANSWER_END)[0].split("\n")[0].strip(" =").rstrip(".") + ANSWER_END


def _task(description: str, answer: str) -> str:
    return f"{description}\nPut the final answer between <ans> and </ans>{ANSWER_FORMS.get(answer, '')}."
