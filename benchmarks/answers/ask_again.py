"""Probe the drafts of a finished run with `probe.ask_again` off and on, for docs/answers.md.

    python benchmarks/answers/ask_again.py CONFIG.yaml OUTPUT_DIR STUDENT CACHE

CONFIG.yaml is the run's, OUTPUT_DIR its folder, STUDENT where its student lies, CACHE a file for the replies. What
comes of it is printed and left in `ask_again.json`; the run's own files stay as they are.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import yaml

from arte_plugin.config.arte import ArteArgs
from arte_plugin.data.tasks import Task
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.student import student_model
from arte_plugin.rows import Draft, PreferenceQuestion, read_rows, write_text
from arte_plugin.stages.probing import Tally, probe

FIGURES = Path(__file__).with_name("ask_again.json")


def main(config: str, output: str, student: str, cache_file: str) -> None:
    """Print and keep how the probes come out."""
    given = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["arte"]
    given["student"]["base_model"] = student
    drafts = read_rows(Path(output) / "arte/01-elicit/drafts.jsonl", Draft)
    chosen = read_rows(Path(output) / "arte/02-preference-set/preference_set.jsonl", PreferenceQuestion)
    made = []
    cache = RequestCache(Path(cache_file))
    for ask_again in (False, True):
        args = ArteArgs.model_validate(given | {"probe": {**given.get("probe", {}), "ask_again": ask_again}})
        model, tally, tokens = student_model(args.students[0], args, {}, cache), Tally(), 0
        for task in args.tasks:
            of_task = [draft for draft in drafts if draft.task == task.name]
            questions = [question for question in chosen if question.task == task.name]
            rows = probe(Task(task, [], [], [], 0), of_task, questions, model, args.probe)
            tokens += sum(row.new_tokens or 0 for row in tally.counted(rows))
        model.close()
        by_task = {task: asdict(one) for (task, _), one in tally.by_task.items()}
        made.append({"ask_again": ask_again, "requests": model.usage.requests, "new_tokens": tokens, **by_task})
    cache.close()
    write_text(FIGURES, json.dumps(made, indent=1) + "\n")
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
