"""Whether what a run left is sane: a check that fails says what was found and what should have been."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from arte_plugin.memory import TOLERANCE

#: Stages in which the teacher is loaded in 4 bits.
TEACHER = ("elicit", "align", "regenerate")
#: Stages that ask the student.
STUDENT = ("preference-set", "probe")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    passed: bool
    found: str


def check(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every check of a finished run's results, as `__main__` collects them."""
    return [asdict(one) for one in _checks(results)]


def failures(checks: list[dict[str, Any]]) -> str:
    """The checks that failed, in one line; empty where there is none."""
    return "; ".join(f"{one['what']}: {one['found']}" for one in checks if not one["passed"])


def _checks(results: Mapping[str, Any]) -> Iterator[Check]:
    stages, device = results["stages"], results["device"]["kind"]
    missing = [name for name in ("elicit", "probe", "pair", "align", "regenerate", "sft", "evaluate")
               if name not in stages]  # fmt: skip
    yield Check("every stage has been run", not missing, f"not run: {', '.join(missing)}" if missing else "all")
    yield _some("drafts that can be parsed", stages, "elicit", "drafts")
    outcomes = results["outcomes"]
    total = sum(outcomes.values())
    unparsed = outcomes.get("unparsed", 0)
    yield Check("probes whose answer can be read", unparsed < total, f"{total - unparsed} of {total}")
    pairs = sum(stages.get("pair", {}).get("kept", {}).values())
    yield Check("preference pairs", pairs > 0, str(pairs))
    for name, losses in results["losses"].items():
        yield _losses(name, losses)
    yield _adapter(results["adapter"])
    yield _some("tailored examples", stages, "regenerate", "examples")
    rows = [row for row in results.get("results", []) if row["arm"] == "arte"]
    read, n = sum(row["n"] - row["unparsed"] for row in rows), sum(row["n"] for row in rows)
    yield Check("the tuned student's answers that can be read", read > 0, f"{read} of {n}")
    yield from _models(results, device)
    if device == "cuda":
        yield from _memory(stages)


def _models(results: Mapping[str, Any], device: str) -> Iterator[Check]:
    loaded, wanted = results["loaded"], results["attention"]["used"]
    for stage in (*TEACHER, *STUDENT):
        models = loaded.get(stage, [])
        if not models:
            yield _unseen(f"{stage}: its model", results["stages"], stage)
        for model in models:
            yield Check(f"{stage}: attention", model["attention"] == wanted, f"{model['attention']}, asked: {wanted}")
            yield Check(f"{stage}: device", model["device"] == device, f"{model['device']}, asked: {device}")
            if stage in TEACHER:
                yield _four_bit(stage, model)
            elif device == "cuda":
                yield Check(f"{stage}: precision", model["dtype"] == "bfloat16", model["dtype"])
    if device == "cuda":
        for model in loaded.get("probe", []):
            reason = model.get("why_not", {}).get("paged", "no request was sent to it")
            how = "generate_batch" if model["paged"] else f"not used: {reason}"
            yield Check("probe: continuous batching", model["paged"], how)


def _four_bit(stage: str, model: Mapping[str, Any]) -> Check:
    linear, kinds = model["linear"], model.get("four_bit", [])
    layers = sum(kind["layers"] for kind in kinds)
    good = (
        set(linear) == {"Linear4bit"}
        and layers == linear["Linear4bit"]
        and all(kind["kind"] == "nf4" and kind["double"] for kind in kinds)
    )
    described = ", ".join(
        f"{kind['layers']} in {kind['kind']}{', double' if kind['double'] else ', not double'}" for kind in kinds
    )
    shown = ", ".join(f"{count} {name}" for name, count in linear.items())
    return Check(f"{stage}: NF4, double quantisation", good, f"{shown} ({described or 'none in 4 bits'})")


def _memory(stages: Mapping[str, Any]) -> Iterator[Check]:
    for stage in (*TEACHER, *STUDENT, "sft", "evaluate"):
        row = stages.get(stage, {})
        if not row.get("memory"):
            yield _unseen(f"{stage}: its memory", stages, stage)
        elif "memory_kept" in row:
            left = row["memory_kept"]
            yield Check(f"{stage}: memory given back", left <= TOLERANCE, f"{left / 1e6:.0f} MB kept, at most 200 MB")


def _unseen(what: str, stages: Mapping[str, Any], stage: str) -> Check:
    """A call that was to go on with a stage, and found all its answers there, has loaded no model for it."""
    answered = stage in stages and stage not in ("align", "sft", "evaluate") and "asked" not in stages[stage]
    return Check(what, answered, "not seen: all answers were there" if answered else "nothing is known of it")


def _losses(name: str, losses: list[float]) -> Check:
    wrong = [loss for loss in losses if not math.isfinite(loss)]
    found = f"{len(losses)} steps, {losses[0]:.3f} to {losses[-1]:.3f}" if losses else "no step was logged"
    return Check(f"{name}: finite losses", bool(losses) and not wrong, found)


def _adapter(adapter: Mapping[str, float]) -> Check:
    largest = adapter.get("largest", 0.0)
    found = f"{100 * adapter['changed']:.1f} % of B, at most {largest:.2g}" if adapter else "there is none"
    return Check("the adapter has moved", adapter.get("changed", 0) > 0 and math.isfinite(largest), found)


def _some(what: str, stages: Mapping[str, Any], stage: str, rows: str) -> Check:
    count = stages.get(stage, {}).get("kept", {}).get(rows, 0)
    return Check(what, count > 0, str(count))
