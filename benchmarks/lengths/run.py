"""How long prompts are in tokens, and rows and cached requests in bytes, for the arithmetic of docs/scaling.md.

    python -m benchmarks.lengths.run --data data/bbh --model models/student outputs/bbh-boolean outputs/…

DATA holds files of Big-Bench-Hard under their own names, `navigate.json`; MODEL is for its tokenizer. The others are
folders of runs, whose probes, drafts and request caches are weighed. Means are left in `results.json`; no text is kept.
"""

import argparse
import json
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data import presets
from arte_plugin.data.sources import read_source
from arte_plugin.language import prompts
from arte_plugin.rows import Draft, Probe, iter_rows

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show and keep the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--to", type=Path, default=HERE / "results.json")
    parser.add_argument("runs", type=Path, nargs="*")
    options = parser.parse_args(arguments)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)

    def tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    found = {"tokens": _tokens(options.data, tokens), "bytes": _bytes(options.runs, tokens)}
    print(json.dumps(found, indent=1))
    options.to.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _tokens(data: Path, tokens: Callable[[str], int]) -> dict[str, float]:
    """Means over tasks."""
    rows = []
    for path in sorted(data.glob("*.json")):
        [entry] = presets.expand({"preset": f"bbh/{path.stem}", "questions": {"path": str(path)}})
        task = TaskArgs.model_validate(entry)
        assert task.questions is not None
        questions = read_source(task, task.questions).questions
        some = [(one.question, one.target) for one in questions[:3]]
        written = "".join(prompts.tagged_question(4, *one) for one in some)
        rows.append(
            {
                "question": fmean(tokens(one.question) for one in questions[:100]),
                "probe, before the draft": tokens(prompts.solve_prefix(task.description, task.answer)),
                "probe, beside the questions": tokens(prompts.solve_rest("")) * 2,
                "question prompt": tokens(prompts.question_prompt(task.description, some, 5)),
                "a written question": tokens(written) / len(some),
                "technique prompt, without the question": fmean(
                    tokens(prompts.technique_prompt(task.description, technique, task.answer, ""))
                    for technique in task.techniques.values()
                ),
            }
        )
    means = {name: round(fmean(row[name] for row in rows), 1) for name in rows[0]}
    return {"tasks": len(rows), **means}


def _bytes(runs: Iterable[Path], tokens: Callable[[str], int]) -> dict[str, float]:
    """Means over rows."""
    probes = probe_bytes = responses = drafts = draft_bytes = cached = cache_bytes = texts = new_tokens = 0
    for run in runs:
        if (file := run / "arte/03-probe/probes.jsonl").is_file():
            probe_bytes += file.stat().st_size
            for row in iter_rows(file, Probe):
                probes += 1
                responses += len(json.dumps(row.response, ensure_ascii=False).encode())
        if (file := run / "arte/01-elicit/drafts.jsonl").is_file():
            draft_bytes += file.stat().st_size
            drafts += sum(1 for _ in iter_rows(file, Draft))
        if (file := run / "arte/requests.sqlite").is_file():
            with sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True) as db:
                pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
                cache_bytes += pages * size
                for text, new in db.execute("SELECT text, new_tokens FROM completions"):
                    cached += 1
                    texts += len(text.encode())
                    new_tokens += new
    return {
        "probes": probes,
        "a probe, without its response": round((probe_bytes - responses) / probes, 1),
        "drafts": drafts,
        "a draft": round(draft_bytes / drafts, 1),
        "cached requests": cached,
        "a cached request, without its text": round((cache_bytes - texts) / cached, 1),
        "text, a token": round(texts / new_tokens, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
