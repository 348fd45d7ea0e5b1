"""How good the demo teacher is: shares of questions that parse, and of targets and rationales that are right.

    python yaml_examples/demo_teacher/measure.py models/teacher --calls 12 --rationales 40 --seed 11 [--json OUT]

Fresh questions from the generators, the prompts of a real run, the exact solvers as judges.
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from arte_plugin.engines.base import Request, plan_batches
from arte_plugin.engines.transformers import TransformersEngine
from arte_plugin.language import answers, prompts
from arte_plugin.language.question_tags import parse_questions
from arte_plugin.language.rendering import Renderer
from generators import TASKS, TECHNIQUES
from make_training_data import QUESTIONS, SEEDS, distinct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--calls", type=int, default=12, help="question-generation calls a task")
    parser.add_argument("--rationales", type=int, default=40, help="questions a task, each with every technique")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the questions; rationales are greedy")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype="float32")
    engine, renderer = TransformersEngine(model, tokenizer), Renderer(tokenizer, "auto")

    def ask(requests: list[Request]) -> list[str]:
        texts = {}
        for batch in plan_batches(requests, 16):
            texts.update(zip(batch, (completion.text for completion in engine.generate(batch)), strict=True))
        return [texts[request] for request in requests]

    report = {}
    for name, generator in TASKS.items():
        rng = random.Random(f"{options.seed}/{name}")
        requests = []
        for call in range(options.calls):
            seeds = [(question, generator.solve(question)) for question in distinct(generator, rng, SEEDS)]
            prompt = prompts.question_prompt(generator.description, seeds, QUESTIONS)
            requests.append(
                Request(renderer.prompt(prompt), f"q{call}", 512, options.temperature, options.seed * 1000 + call)
            )
        written, rejected, valid, right = [], 0, 0, 0
        for text in ask(requests):
            questions, bad = parse_questions(text)
            written += questions
            rejected += len(bad)
        for question in written:
            try:
                valid += 1
                right += answers.same(generator.solve(question.question), question.target, generator.answer)
            except ValueError:
                valid -= 1

        fresh = distinct(generator, rng, options.rationales)
        asks = [(question, technique) for question in fresh for technique in TECHNIQUES]
        requests = [
            Request(
                renderer.prompt(
                    prompts.technique_prompt(
                        generator.description, prompts.DEFAULT_TECHNIQUES[technique], generator.answer, question
                    )
                ),
                f"r{i}", 256, 0.0, 0, prompts.RATIONALE_STOP, generator.answer,
            )
            for i, (question, technique) in enumerate(asks)
        ]  # fmt: skip
        correct: Counter[str] = Counter()
        rationales: dict[str, set[str]] = {}
        for (question, technique), text in zip(asks, ask(requests), strict=True):
            correct[technique] += answers.judge(text, generator.solve(question), generator.answer)[1] == "correct"
            rationales.setdefault(question, set()).add(text)
        report[name] = {
            "temperature": options.temperature,
            "questions_asked_for": options.calls * QUESTIONS,
            "questions_parsed": len(written),
            "questions_rejected": rejected,
            "questions_the_solver_understands": valid,
            "distinct_questions": len({question.question for question in written}),
            "targets_right": right,
            "rationales": len(asks),
            "rationales_right": correct.total(),
            "rationales_right_by_technique": {t: f"{correct[t]} of {options.rationales}" for t in TECHNIQUES},
            "questions_with_four_different_rationales": sum(len(texts) == 4 for texts in rationales.values()),
        }
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
