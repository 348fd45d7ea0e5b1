"""Write the chats that teach SmolLM2 to be the demo teacher: question generation and rationales, from exact solvers.

    python yaml_examples/demo_teacher/make_training_data.py OUT.jsonl --examples 2240 --seed 7

The prompts are arte_plugin's own, so the teacher is asked in the run as it was taught.
"""

import argparse
import json
import random
from pathlib import Path

from arte_plugin.language import prompts
from generators import TASKS, TECHNIQUES, Generator

SEEDS, QUESTIONS = 3, 5


def distinct(generator: Generator, rng: random.Random, count: int) -> list[str]:
    questions: list[str] = []
    while len(questions) < count:
        question = generator.question(rng)
        if question not in questions:
            questions.append(question)
    return questions


def question_chat(generator: Generator, rng: random.Random) -> tuple[str, str]:
    questions = distinct(generator, rng, SEEDS + QUESTIONS)
    labelled = [(question, generator.solve(question)) for question in questions]
    prompt = prompts.question_prompt(generator.description, labelled[:SEEDS], QUESTIONS)
    reply = [prompts.tagged_question(i, *pair) for i, pair in enumerate(labelled[SEEDS:], SEEDS + 1)]
    return prompt, "\n".join(reply)


def rationale_chat(generator: Generator, rng: random.Random) -> tuple[str, str]:
    question = generator.question(rng)
    technique = rng.choice(TECHNIQUES)
    rationale = generator.rationale(question, technique)
    if rng.random() < 0.2:
        # The plain prompt, as after prompt erasure: every style is open, so that alignment has something to choose.
        return prompts.solve_prompt(generator.description, generator.answer, question), rationale
    instruction = prompts.DEFAULT_TECHNIQUES[technique]
    return prompts.technique_prompt(generator.description, instruction, generator.answer, question), rationale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=int, default=2240)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    rng = random.Random(options.seed)
    with options.out.open("w") as file:
        for i in range(options.examples):
            # Seven in ten: the harder task.
            generator = TASKS["boolean_expressions" if i % 10 < 7 else "kind_of_thing"]
            make = question_chat if rng.random() < 0.45 else rationale_chat
            prompt, reply = make(generator, rng)
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
            file.write(json.dumps({"messages": turns}) + "\n")


if __name__ == "__main__":
    main()
