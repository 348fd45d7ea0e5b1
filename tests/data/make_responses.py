"""Makes `responses.json`: which of our own questions two small real models answer right, as a matrix for each task.

    arte demo-models models
    python tests/data/make_responses.py models tests/data/responses.json

16 respondents: the quickstart's student and its teacher, with and without the chat template, at 0, 1, 2 and 3 shots.
40 questions a task from yaml_examples/data, asked as `make gpu-check` asks them. Some ten minutes on two CPU cores;
answers are kept in a cache beside the models, so that it can be stopped. Only right or not right is written, no text.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from arte_plugin.config.arte import ArteArgs
from arte_plugin.data.tasks import load_task
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from arte_plugin.rows import Response
from arte_plugin.stages.respond import respond

EXAMPLE = Path(__file__).parents[2] / "benchmarks/gpu_check/loop.yaml"
QUESTIONS = 40
SHOTS = (0, 1, 2, 3)


def main() -> None:
    """Ask, and write the matrices."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, help="the folder that `arte demo-models` wrote")
    parser.add_argument("output", type=Path, help="the JSON file to write")
    options = parser.parse_args()

    config: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    args = ArteArgs.model_validate(config["arte"])
    tasks = [
        load_task(task.model_copy(update={"validation_questions": QUESTIONS, "test_questions": 1}), args.seed)
        for task in args.tasks
    ]
    cache = RequestCache(options.models / "responses.sqlite")
    rows: list[tuple[str, Response]] = []
    for style in ("chat", "plain"):
        for name in ("student", "teacher"):
            model = student_model(str(options.models / name), style, args, config, cache)
            for task in tasks:
                for shots in SHOTS:
                    answers = respond(task, model, name, shots, args.probe, args.seed)
                    rows += [(f"{name} {style} {shots}-shot", answer) for answer in answers]
            model.close()

    matrices: dict[str, dict[str, Any]] = {}
    for task in tasks:
        marks: dict[str, str] = {}
        for respondent, row in rows:
            if row.task == task.name:
                marks[respondent] = marks.get(respondent, "") + str(int(row.outcome == "correct"))
        matrices[task.name] = {"questions": [question.question_id for question in task.validation], "correct": marks}
    options.output.write_text(json.dumps(matrices, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
