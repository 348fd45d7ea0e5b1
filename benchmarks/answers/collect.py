"""Ask models questions of every answer type and write down what they say, to be labelled by hand.

    python benchmarks/answers/collect.py models/student models/teacher > responses.jsonl

Every model answers 40 questions (10 of each type) in each prompt style at each temperature, with 0, 1 and 2 examples in
turn. The questions are made here; none is from a benchmark.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from arte_plugin.engines.base import Request
from arte_plugin.language import prompts
from arte_plugin.language.rendering import PromptStyle, Renderer

STYLES: tuple[PromptStyle, ...] = ("chat", "plain")
TEMPERATURES = (0.0, 0.9)
QUESTIONS = 10
MAX_NEW_TOKENS = 90
BATCH = 16

NAMES = ("Mia", "Tom", "Lena", "Omar", "Ruth", "Ivan")
THINGS = ("apples", "pens", "coins", "stamps", "eggs", "shells")
WORDS = {
    "fruit": ("pear", "plum", "cherry", "melon"),
    "tool": ("hammer", "saw", "pliers", "drill"),
    "bird": ("crow", "robin", "heron", "stork"),
    "colour": ("red", "violet", "beige", "teal"),
}


def number_question(rng: random.Random) -> tuple[str, str]:
    """A sum of one step, and its result."""
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    a, b, c = rng.randint(3, 40), rng.randint(2, 30), rng.randint(2, 9)
    return rng.choice(
        [
            (f"{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?", str(a + b)),
            (f"{name} has {a + b} {things} and gives {b} away. How many {things} are left?", str(a)),
            (f"A box holds {c} {things}. How many {things} are in {a} boxes?", str(a * c)),
            (
                f"{name} pays {a} dollars for a book and {b} dollars for a pen. How many dollars does {name} pay?",
                str(a + b),
            ),
        ]
    )


def choice_question(rng: random.Random) -> tuple[str, str]:
    """Three words, and the letter of the one of the kind that is asked for."""
    wanted = rng.choice(list(WORDS))
    others = rng.sample([kind for kind in WORDS if kind != wanted], 2)
    options = [rng.choice(WORDS[kind]) for kind in (wanted, *others)]
    rng.shuffle(options)
    right = next(letter for letter, option in zip("ABC", options, strict=True) if option in WORDS[wanted])
    lines = "\n".join(f"({letter}) {option}" for letter, option in zip("ABC", options, strict=True))
    return f"Which of these is a {wanted}?\nOptions:\n{lines}", f"({right})"


def text_question(rng: random.Random) -> tuple[str, str]:
    """A word, and the kind of thing that it names."""
    kind = rng.choice(list(WORDS))
    return f"What kind of thing does the word {rng.choice(WORDS[kind])} name?", kind


def boolean_question(rng: random.Random) -> tuple[str, str]:
    """A comparison, a parity or two truth values, asked for Yes and No or for True and False."""
    a, b, form = rng.randint(1, 30), rng.randint(1, 30), rng.randrange(3)
    if form == 0:
        return f"Is {a} larger than {b}?", "Yes" if a > b else "No"
    if form == 1:
        return f"Is {a} an even number?", "Yes" if a % 2 == 0 else "No"
    first, second = (rng.choice((True, False)) for _ in range(2))
    operator = rng.choice(["and", "or"])
    return f"{first} {operator} {second} is", str(first and second if operator == "and" else first or second)


TASKS: dict[str, tuple[str, Callable[[random.Random], tuple[str, str]]]] = {
    "number": ("Solve the problem.", number_question),
    "choice": ("Choose the right option.", choice_question),
    "text": ("Say what kind of thing a word names.", text_question),
    "boolean": ("Answer with yes or no, or with True or False.", boolean_question),
}


def main() -> None:
    """Ask every model in turn and print one JSON object a response."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, help="folders of models for the transformers library")
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    for path in args.models:
        ask(path, rng)


def ask(path: Path, rng: random.Random) -> None:
    """Print the responses of one model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from arte_plugin.engines.transformers import TransformersEngine

    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    engine = TransformersEngine(model, tokenizer)
    for style in STYLES:
        renderer = Renderer(tokenizer, style)
        for temperature in TEMPERATURES:
            made = requests(renderer, temperature, rng)
            for start in range(0, len(made), BATCH):
                batch = made[start : start + BATCH]
                for (about, _), completion in zip(batch, engine.generate([one for _, one in batch]), strict=True):
                    row = {
                        "kind": about["kind"],
                        "model": path.name,
                        "style": style,
                        "temperature": temperature,
                        "question": about["question"],
                        "target": about["target"],
                        "response": completion.text,
                    }
                    json.dump(row, sys.stdout, ensure_ascii=False)
                    print(flush=True)
    engine.close()


def requests(renderer: Renderer, temperature: float, rng: random.Random) -> list[tuple[dict[str, str], Request]]:
    """Questions of every type with the requests that ask them."""
    made = []
    for kind, (description, question_of) in TASKS.items():
        for number in range(QUESTIONS):
            question, target = question_of(rng)
            shown = [question_of(rng) for _ in range(number % 3)]
            examples = [(other, prompts.bare_rationale(answer)) for other, answer in shown]
            request = Request(
                prompt=renderer.prompt(prompts.solve_prompt(description, kind, question, examples)),
                group=f"{kind}{number}",
                max_new_tokens=MAX_NEW_TOKENS,
                temperature=temperature,
                seed=rng.randint(0, 1 << 30),
                stop=prompts.RATIONALE_STOP,
                answer=kind,
            )
            made.append(({"kind": kind, "question": question, "target": target}, request))
    return made


if __name__ == "__main__":
    main()
