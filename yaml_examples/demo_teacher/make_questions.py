"""Write the quickstart's labelled questions, `yaml_examples/data/*.jsonl`, from the generators and a seed.

python yaml_examples/demo_teacher/make_questions.py yaml_examples/data --questions 160 --seed 2024
"""

import argparse
import json
import random
from pathlib import Path

from generators import TASKS
from make_training_data import distinct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int, default=160)
    parser.add_argument("--seed", type=int, default=2024)
    options = parser.parse_args()

    for name, generator in TASKS.items():
        rng = random.Random(f"{options.seed}/{name}")
        with (options.folder / f"{name}.jsonl").open("w") as file:
            for question in distinct(generator, rng, options.questions):
                file.write(json.dumps({"question": question, "answer": generator.solve(question)}) + "\n")


if __name__ == "__main__":
    main()
