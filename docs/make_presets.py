"""Write `docs/presets.md` from `arte_plugin/data/presets/*.yaml`; with `--check`, fail when it is stale.

python -m docs.make_presets [--check]
"""

import sys
from collections.abc import Mapping
from typing import Any

from arte_plugin.data.presets import FAMILIES, family
from docs.generated import DOCS, write_or_check

HEAD = """\
# Presets

Tasks that come with the plugin: description, type of answer, place of the data, and four techniques each, in this
project's own words. This page is written from `arte_plugin/data/presets/*.yaml` by `docs/make_presets.py` (`make
docs`), and a test fails when it is stale. The data is not part of the plugin: it is loaded from the Hub, or from your
own copy.

```yaml
arte:
  tasks:
    - preset: gsm8k                       # one task
    - preset: arc                         # a family: all of its tasks
    - preset: bbh/navigate
      seed_questions: 5                   # your keys win over the preset's
      questions:
        path: data/bbh/navigate.json      # your own copy; its columns are known from the preset
    - preset: bbh/web_of_lies
      name: liars
      techniques:
        aloud: Read every statement aloud, then answer.
        in_writing: Write every statement down, then answer.
```

- Keys of `questions` and of `test_questions` are merged one by one with the preset's. In a `path`, `{task}` stands for
  the last part of the preset's name: `{preset: bbh, questions: {path: "data/bbh/{task}.json"}}` runs all of
  Big-Bench-Hard from local files.
- With a local `questions.path` and no `test_questions` of yours, the test questions are what is left of that file, and
  nothing is loaded from the Hub.
- `arte presets` lists all presets, `arte presets NAME` writes one out in full, to be pasted under `tasks:` and changed.
- `bad_rows: drop` stands where a data set is known to hold rows whose answer can't be read; `arte validate` says how
  many were left out.
- Every preset keeps the default 10 seed and 100 validation questions. Big-Bench-Hard has one split, from which the test
  questions are drawn too; the others take them from a split of their own, of which `evaluate.limit` takes a part.
"""

TITLES = {
    "bbh": "Big-Bench-Hard",
    "gsm8k": "GSM8K",
    "arc": "ARC",
    "piqa": "PIQA",
    "commonsense_qa": "CommonsenseQA",
}


def main() -> int:
    return write_or_check(DOCS / "presets.md", HEAD + "".join(_section(name) for name in FAMILIES))


def _section(name: str) -> str:
    tasks = family(name)
    head = f"\n## {TITLES[name]}: `{name}`\n\n"
    if len(tasks) > 1:
        all_of_them = "both tasks" if len(tasks) == 2 else f"all {len(tasks)} tasks"
        head += f"`preset: {name}` stands for {all_of_them}.\n\n"
    lines = ["| preset | category, answer | description | techniques |", "| --- | --- | --- | --- |"]
    # Sizes of one task share a row.
    rows: dict[tuple[str, str], list[str]] = {}
    for preset, task in tasks.items():
        rows.setdefault((task["description"], str(task["techniques"])), []).append(preset)
    for presets in rows.values():
        task = tasks[presets[0]]
        techniques = "<br>".join(f"`{technique}`: {_cell(text)}" for technique, text in task["techniques"].items())
        names = "<br>".join(f"`{preset}`" for preset in presets)
        lines.append(
            f"| {names} | {task['category']}, {task['answer']} | {_cell(task['description'])} | {techniques} |"
        )
    return head + "\n".join(lines) + "\n\n" + _data(tasks)


def _data(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """Where the data stands, told once for tasks that differ in the data set's configuration only."""
    places = []
    for task in tasks.values():
        source = task["questions"]
        test = task["test_questions"]["split"] if "test_questions" in task else source["split"]
        places.append(f"`{source['path']}`, questions from its split `{source['split']}`, test questions from `{test}`")
    return "".join(f"On the Hub: {place}.\n" for place in dict.fromkeys(places))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


if __name__ == "__main__":
    sys.exit(main())
