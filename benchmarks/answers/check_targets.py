"""Read every target of real data back out of every form in which a model could write it.

    python benchmarks/answers/check_targets.py --data data

`data/bbh/navigate.json` is read as the preset `bbh/navigate` says, `data/gsm8k/test.jsonl` as `gsm8k` says. The counts
are printed and left in `targets.json`, for docs/answers.md; no text of the data is kept. The exit code is 1 if
something did not match, which `--show` prints.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from answer_forms import forms
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data import presets
from arte_plugin.data.sources import read_source
from arte_plugin.language.answers import judge, same
from arte_plugin.rows import Question, write_text
from arte_plugin.show.tables import format_table

COUNTS = Path(__file__).with_name("targets.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with JSON and JSONL files in it")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N mismatches of each file")
    args = parser.parse_args(arguments)
    counts = []
    for path in sorted(path for path in args.data.rglob("*") if path.suffix in (".json", ".jsonl")):
        if task := task_of(path, args.data):
            counts.append(check(path.relative_to(args.data).as_posix(), task, args.show))
        else:
            print(f"{path}: left out, there is no preset of that name")
    if not counts:
        parser.error(f"there is no file in {args.data} for which there is a preset")
    print(format_table([list(counts[0]), *([str(cell) for cell in row.values()] for row in counts)]))
    write_text(COUNTS, json.dumps(counts, indent=1) + "\n")
    return int(any(row["mismatches"] for row in counts))


def task_of(path: Path, data: Path) -> TaskArgs | None:
    """The preset of a file's name, or of its folder's, with its questions in that file."""
    name = path.relative_to(data).with_suffix("")
    known = {preset for one in presets.FAMILIES for preset in presets.family(one)}
    for preset in (name.as_posix(), name.parent.as_posix()):
        if preset in known:
            [task] = presets.expand({"preset": preset, "questions": {"path": str(path)}})
            return TaskArgs.model_validate(task)
    return None


def check(file: str, task: TaskArgs, show: int) -> dict[str, str | int]:
    """The counts of one file."""
    questions = read_source(task, task.questions).questions if task.questions else []
    tried = mismatches = 0
    for question, other in zip(questions, others(task, questions), strict=True):
        for form in forms(task.answer, question.target, other, question.question):
            tried += 1
            wanted = (form.read or "", "unparsed" if form.read is None else "correct")
            found = judge(form.response, question.target, task.answer)
            if found != wanted:
                mismatches += 1
                if mismatches <= show:
                    print(f"{file}: {form.shape}, {form.writing}: {form.response!r} was read as {found}, not {wanted}")
    return {
        "file": file,
        "answer": task.answer,
        "questions": len(questions),
        "forms": tried,
        "mismatches": mismatches,
    }


def others(task: TaskArgs, questions: Sequence[Question]) -> Iterator[str]:
    """For each question a wrong answer: the next target of the file that is another."""
    targets = [question.target for question in questions]
    for i, target in enumerate(targets):
        yield next(other for other in targets[i + 1 :] + targets[:i] if not same(target, other, task.answer))


if __name__ == "__main__":
    raise SystemExit(main())
