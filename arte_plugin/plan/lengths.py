"""How long prompts and replies are, in tokens: measured on the tasks' own texts where these are at hand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.language import prompts
from arte_plugin.language.rendering import Renderer

#: Texts that are measured, of each kind and task.
SAMPLE = 50


@dataclass(frozen=True)
class Lengths:
    """Means of one task, in the tokens of one model. The defaults are Big-Bench-Hard's (benchmarks/lengths)."""

    question: float = 106.6
    #: The step-by-step prompt up to its first question, and what stands around a question in it.
    before: float = 55.5
    frame: float = 13.0
    question_prompt: float = 473.6
    #: A question with its target, as the teacher writes it.
    written_question: float = 126.0
    #: A technique's prompt without its question.
    technique: float = 95.0
    #: What the chat template adds before and behind a prompt.
    chat_before: float = 0.0
    chat_behind: float = 0.0
    #: A few-shot example of the data: question, frame, and solution or bare answer.
    shot: float = 269.6
    #: Assumed wherever nobody has written any yet: a large teacher's rationale, a student's reply.
    rationale: float = 150.0
    reply: float = 100.0

    @property
    def chat(self) -> float:
        """All that the chat template adds."""
        return self.chat_before + self.chat_behind


#: Where nothing is at hand.
ASSUMED = Lengths()


def measured(args: TaskArgs, task: Task, renderer: Renderer, seeds: int, questions: int) -> Lengths:
    """The lengths of a task's texts as `renderer`'s model sees them; rationale and reply stay as assumed."""

    def tokens(text: str) -> int:
        return len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"])

    known = [*task.seeds, *task.validation][:SAMPLE]
    pairs = [(one.question, one.target) for one in task.seeds[:seeds]]
    mark = "¤¤"
    head, _, tail = renderer.prompt(mark).partition(mark)
    frame = tokens(prompts.solve_rest(""))
    examples = [
        frame + tokens(one.question) + tokens(one.rationale or prompts.bare_rationale(one.target)) for one in known
    ]
    return Lengths(
        question=fmean(tokens(one.question) for one in known),
        before=tokens(prompts.solve_prefix(args.description, args.answer)),
        frame=frame,
        question_prompt=tokens(prompts.question_prompt(args.description, pairs, questions)),
        written_question=fmean(tokens(prompts.tagged_question(4, one.question, one.target)) for one in known),
        technique=fmean(
            tokens(prompts.technique_prompt(args.description, technique, args.answer, ""))
            for technique in args.techniques.values()
        ),
        chat_before=tokens(head),
        chat_behind=tokens(tail),
        shot=fmean(examples),
    )


def within(lengths: Lengths, rationale: int, reply: int) -> Lengths:
    """The same with replies no longer than `max_new_tokens` allow."""
    return replace(lengths, rationale=min(lengths.rationale, rationale), reply=min(lengths.reply, reply))


def longest_rows(lengths: Sequence[Lengths], questions: int) -> tuple[int, int]:
    """Usual tokens of a preference pair's longer side, and of a tailored example, over tasks; the longest kind.

    A question stands behind others of its call, which asks for so many `questions`: in the mean it is the middle one.
    """
    pair = max(
        max(
            one.chat + one.question_prompt + (questions + 1) / 2 * one.written_question,
            one.chat + one.before + one.frame + one.question + one.rationale,
        )
        for one in lengths
    )
    example = max(one.chat + one.before + one.frame + one.question + one.rationale for one in lengths)
    return round(pair), round(example)
