"""What is asked: the prompts of a draft's probes, as the probe stage writes them, for a prefix of a wanted length."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from arte_plugin.data.local_files import read_file
from arte_plugin.data.presets import family
from arte_plugin.language import prompts
from arte_plugin.language.rendering import Renderer

Length = Literal["real", "fixed"]

#: Longest reply where replies end by themselves, and the length of every reply where they must not.
REAL_TOKENS, FIXED_TOKENS = 64, 32
#: Steps of a rationale, and at most of the last example's: with them the prefix comes near to the wanted length.
STEPS, MOST_STEPS = 6, 24


@dataclass(frozen=True)
class Task:
    """The questions that the prompts are made from, and how a probe of their task begins."""

    name: str
    description: str
    answer: str
    #: `(question, target)` in the file's order.
    questions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Work:
    """Prompts with one shared prefix, and how long the replies to them are."""

    #: Tokens that the prefix was to have.
    wanted: int
    length: Length
    prompts: tuple[str, ...]
    #: Of each prompt, special tokens included.
    prompt_tokens: tuple[int, ...]
    #: Tokens that all prompts begin with.
    prefix_tokens: int

    @property
    def name(self) -> str:
        """`512/real`."""
        return f"{self.wanted}/{self.length}"

    @property
    def max_new_tokens(self) -> int:
        """Tokens of the longest reply; of every reply where `length` is `fixed`."""
        return REAL_TOKENS if self.length == "real" else FIXED_TOKENS

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a reply, for all contenders: that an answer can be read, only the product looks after."""
        return (prompts.ANSWER_END, *prompts.RATIONALE_STOP) if self.length == "real" else ()


def read_task(path: Path) -> Task:
    """The questions of a file: BBH's own JSON (`examples` of `input` and `target`), or rows of `question`, `answer`.

    Where the file is named like a BBH task, it is described in the words of that task's preset. Raises `ConfigError`
    for a file that can't be read.
    """
    if path.suffix == ".json" and isinstance(content := json.loads(path.read_text(encoding="utf-8")), dict):
        questions = [(row["input"], row["target"]) for row in content["examples"]]
    else:
        questions = [(row["question"], row["answer"]) for row in read_file(path)]
    preset = family("bbh").get(f"bbh/{path.stem}", {"description": "Answer the question.", "answer": "text"})
    return Task(path.stem, preset["description"], preset["answer"], tuple(questions))


def make_work(task: Task, renderer: Renderer, wanted: int, length: Length, siblings: int, number: int = 0) -> Work:
    """`siblings` prompts whose shared prefix comes as near to `wanted` tokens as examples and their rationales allow.

    Its task's description ends in `number`: prompts of another number share next to nothing with these, so nobody has
    them in a cache. Raises `ValueError` where the file holds too few questions.
    """
    asked, rest = task.questions[:siblings], task.questions[siblings:]
    if len(asked) < siblings or not rest:
        raise ValueError(f"{task.name} has {len(task.questions)} questions: too few for {siblings} siblings")
    description = f"{task.description} (Set {wanted:04}-{number:02}.)"

    def rendered(examples: Sequence[tuple[str, str]], questions: Sequence[tuple[str, str]]) -> list[str]:
        return [
            renderer.prompt(prompts.solve_prompt(description, task.answer, question, examples))
            for question, _ in questions
        ]

    def prefix(examples: Sequence[tuple[str, str]], questions: Sequence[tuple[str, str]]) -> int:
        return shared_prefix(tokenise(renderer, rendered(examples, questions)))

    # Whole examples first, with a middling rationale, until one more would be too much; the last one is then fitted.
    examples: list[tuple[str, str]] = []
    for question, target in rest:
        longer = [*examples, (question, rationale(question, target, STEPS))]
        if examples and prefix(longer, asked[:2]) > wanted:
            break
        examples = longer
    last = rest[len(examples) - 1]
    fits = [[*examples[:-1], (last[0], rationale(*last, steps))] for steps in range(MOST_STEPS + 1)]
    examples = min(fits, key=lambda fit: abs(prefix(fit, asked[:2]) - wanted))
    texts = rendered(examples, asked)
    tokens = tokenise(renderer, texts)
    return Work(wanted, length, tuple(texts), tuple(map(len, tokens)), shared_prefix(tokens))


def tokenise(renderer: Renderer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of prompts, which hold their special tokens already."""
    return renderer.tokenizer(list(texts), add_special_tokens=False)["input_ids"]


def shared_prefix(tokens: Sequence[Sequence[int]]) -> int:
    """Tokens that all sequences begin with, one less than the shortest has at most: a reply needs one to go on from."""
    same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*tokens, strict=False)))
    return min(same, min(map(len, tokens)) - 1)


def rationale(question: str, target: str, steps: int) -> str:
    """A rationale of `steps` steps on the way to the answer. Its length is what counts here, not its sense."""
    words = question.split()
    pieces = [" ".join(words[i : i + 6]) for i in range(0, len(words), 6)]
    said = [
        f"Step {step + 1}: the question says {pieces[step % len(pieces)]!r}, so we keep that in mind."
        for step in range(steps)
    ]
    return "\n".join([*said, f"So the answer is {prompts.ANSWER_BEGIN}{target}{prompts.ANSWER_END}"])


def spread(siblings: int, wanted: int) -> list[int]:
    """Places of `wanted` of the siblings, evenly spread; of all where there are no more."""
    wanted = min(siblings, wanted)
    return [place * siblings // wanted for place in range(wanted)]
