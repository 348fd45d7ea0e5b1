"""Write the tables of `docs/scaling.md`; with `--check`, fail when they are stale.

    python -m docs.make_scaling [--check]
    python -m docs.make_scaling --student 50000 10000 --teacher 2000 600

With rates (tokens a second of one GPU, of prompts and of replies) the tables are printed for these, and nothing is
written. Measured figures come from `benchmarks/client` and
`benchmarks/lengths`, sizes from the defaults, which are the paper's.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.language.prompts import DEFAULT_TECHNIQUES
from arte_plugin.plan.disk import Bytes, rows_and_cache
from arte_plugin.plan.lengths import Lengths
from arte_plugin.plan.rates import Rate, rate_of
from arte_plugin.plan.totals import works
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

BENCHMARKS = DOCS.parent / "benchmarks"

#: The paper's: tasks of Big-Bench-Hard, respondents (at four numbers of shots each), tailored examples in all.
TASKS, RESPONDENTS, EXAMPLES = 23, 5, 6750
#: Assumed, in tokens: a rationale of a large teacher, a student's reply.
RATIONALE, REPLY = 150, 100
GPUS = (1, 8, 64)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    for who in ("teacher", "student"):
        parser.add_argument(f"--{who}", type=float, nargs=2, metavar=("PROMPT_RATE", "WRITING_RATE"))
    options = parser.parse_args(arguments)
    rates = {
        "teacher": Rate(*options.teacher, "given") if options.teacher else rate_of("vllm", "bfloat16", 70e9),
        "student": Rate(*options.student, "given") if options.student else rate_of("vllm", "bfloat16", 2e9),
    }
    tables = {
        "calls": "\n\n".join(
            f"**{title}**\n\n{markdown_table(_calls([one.times(factor) for one in work()], rates))}"
            for title, factor in (("The paper's size", 1), ("A hundred times as much", 100))
        ),
        "assumed": markdown_table(_assumed(rates)),
        "client": markdown_table(_client(rates)),
        "disk": markdown_table(_disk()),
    }
    if options.teacher or options.student:
        print("\n\n".join(tables[name] for name in ("calls", "assumed", "client")))
        return 0
    return fill_or_check(DOCS / "scaling.md", tables)


def work() -> list[Work]:
    """What a run of the paper's size asks, stage by stage, without the evaluation."""
    tokens = _measured("lengths")["tokens"]
    question, frame = tokens["question"], tokens["probe, beside the questions"] / 2
    lengths = Lengths(
        question=question,
        before=tokens["probe, before the draft"],
        frame=frame,
        question_prompt=tokens["question prompt"],
        written_question=tokens["a written question"],
        technique=tokens["technique prompt, without the question"],
        shot=question + frame + RATIONALE,
        rationale=RATIONALE,
        reply=REPLY,
    )
    args = ArteArgs.model_validate({"student": {"base_model": "google/gemma-2b"}, "tasks": [{"preset": "bbh"}]})
    task = Sizes(
        questions=args.elicit.questions,
        techniques=len(DEFAULT_TECHNIQUES),
        validation=TaskArgs.model_fields["validation_questions"].default,
        size=args.preference_set.size,
        shots=[0, 1, 2, 3] * RESPONDENTS,
        examples=EXAMPLES / TASKS,
        teacher=lengths,
        student=lengths,
    )
    return works(args, [task] * TASKS)


def _calls(asked: Sequence[Work], rates: dict[str, Rate]) -> list[list[str]]:
    lines = [["what", "who", "calls", "prompt tokens asked", "computed", "new tokens", "GPU-hours"]]
    for one in asked:
        figures = [_large(one.asked), _large(one.computed), _large(one.new)]
        lines.append([one.what, one.who, f"{one.calls:,.0f}", *figures, _figure(one.hours(rates[one.who]))])
    totals = [_large(sum(getattr(one, name) for one in asked)) for name in ("asked", "computed", "new")]
    hours = sum(one.hours(rates[one.who]) for one in asked)
    lines.append(["all", "", f"{sum(one.calls for one in asked):,.0f}", *totals, _figure(hours)])
    days = ", ".join(f"{_figure(hours / gpus / 24)} on {gpus}" for gpus in GPUS)
    unshared = Work("", "", "student", 0, 0, sum(one.asked for one in asked if one.what == "probes"), 0)
    shared = Work("", "", "student", 0, 0, sum(one.computed for one in asked if one.what == "probes"), 0)
    saved = unshared.hours(rates["student"]) - shared.hours(rates["student"])
    lines.append(["days, on so many GPUs", "", "", "", "", "", days])
    return [*lines, ["saved by the shared part of probes", "", "", "", "", "", _figure(saved)]]


def _assumed(rates: dict[str, Rate]) -> list[list[str]]:
    return [
        ["assumed", "figure"],
        ["a rationale", f"{RATIONALE} tokens"],
        ["a student's reply", f"{REPLY} tokens"],
        ["teacher, one GPU's share (70B by vLLM on four GPUs with 80 GB)", _rate(rates["teacher"])],
        ["student, one GPU (2B by vLLM, 80 GB), large batches", _rate(rates["student"])],
    ]


def _rate(rate: Rate) -> str:
    return f"{rate.prompts:,.0f} prompt tokens/s, {rate.replies:,.0f} new tokens/s ({rate.source})"


def _client(rates: dict[str, Rate]) -> list[list[str]]:
    lines = [["prompts", "tokens in a prompt", "requests a second", "GPUs that this keeps busy with probes"]]
    [probes] = [one for one in work() if one.what == "probes"]
    of_one_gpu = probes.calls / probes.hours(rates["student"]) / 3600
    for row in _measured("client"):
        cells = [row["prompts"], str(row["prompt tokens"]), str(row["requests a second"])]
        lines.append([*cells, _figure(row["requests a second"] / of_one_gpu)])
    return lines


def _disk() -> list[list[str]]:
    found = _measured("lengths")["bytes"]
    bytes_ = Bytes(
        probe=found["a probe, without its response"],
        cached=found["a cached request, without its text"],
        draft=found["a draft"],
        token=found["text, a token"],
    )
    beside = {
        "03-probe/probes.jsonl": f", {bytes_.probe + REPLY * bytes_.token:.0f} bytes a row",
        "requests.sqlite": f", {bytes_.cached:.0f} bytes and the text of a request",
        "01-elicit/drafts.jsonl": f", {bytes_.draft + RATIONALE * bytes_.token:,.0f} bytes a draft, in memory too",
    }
    lines = [["what", "the paper's size", "a hundred times"]]
    sizes = rows_and_cache(work(), REPLY, RATIONALE, bytes_)
    return [*lines, *([f"`{what}`{beside[what]}", _weight(size), _weight(100 * size)] for what, size in sizes.items())]


def _measured(name: str) -> Any:
    return json.loads((BENCHMARKS / name / "results.json").read_text(encoding="utf-8"))


def _large(tokens: float) -> str:
    # Sums of fractions are off in the last of their digits, which must not decide how 101.25 is rounded.
    return f"{tokens / 1e9:,.2f} billion" if tokens >= 1e9 else f"{round(tokens / 1e6, 6):,.1f} million"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _weight(size: float) -> str:
    return (
        f"{size / 1e12:.1f} TB" if size >= 1e12 else f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
