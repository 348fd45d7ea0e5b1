"""Whether what the runs left is sane: a check that fails says what was found and what should have been."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from arte_plugin.models.memory import TOLERANCE
from arte_plugin.training.weight_change import FEW, LITTLE

#: Stages in which the teacher is loaded as it is trained.
TEACHER = ("elicit", "align", "regenerate")
#: Stages that ask the student.
STUDENT = ("preference-set", "probe")

#: Bytes that CUDA's context and the libraries' own take beside what PyTorch counts, the first time that they are used.
CONTEXT = 10**9


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    passed: bool
    found: str


def check(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every check of the finished runs' results, as `__main__` collects them."""
    device = results["device"]["kind"]
    found: list[Check] = []
    for name, loop in results["loops"].items():
        found += [replace(one, what=f"{name}: {one.what}") for one in _loop(name, loop, device)]
    found += [_same(who, one) for who, one in results["replies"].items()]
    return [asdict(one) for one in found]


def failures(checks: list[dict[str, Any]]) -> str:
    """The checks that failed, in one line; empty where there is none."""
    return "; ".join(f"{one['what']}: {one['found']}" for one in checks if not one["passed"])


def _loop(name: str, loop: Mapping[str, Any], device: str) -> Iterator[Check]:
    stages = loop["stages"]
    missing = [stage for stage in ("elicit", "probe", "pair", "align", "regenerate", "sft", "evaluate")
               if stage not in stages]  # fmt: skip
    yield Check("every stage has been run", not missing, f"not run: {', '.join(missing)}" if missing else "all")
    yield _some("drafts that can be parsed", stages, "elicit", "drafts")
    outcomes = loop["outcomes"]
    total = sum(outcomes.values())
    unparsed = outcomes.get("unparsed", 0)
    yield Check("probes whose answer can be read", unparsed < total, f"{total - unparsed} of {total}")
    pairs = sum(stages.get("pair", {}).get("kept", {}).values())
    yield Check("preference pairs", pairs > 0, str(pairs))
    for training, losses in loop["losses"].items():
        yield _losses(training, losses)
    if name != "full":
        yield _adapter(loop["adapter"])
        yield _teacher(loop["moved"].get("align") or {})
    yield _moved(loop)
    yield _some("tailored examples", stages, "regenerate", "examples")
    rows = [row for row in loop.get("results", []) if row["arm"] == "arte"]
    read, n = sum(row["n"] - row["unparsed"] for row in rows), sum(row["n"] for row in rows)
    yield Check("the tuned student's answers that can be read", read > 0, f"{read} of {n}")
    yield from _models(name, loop, device)
    if device == "cuda":
        yield from _memory(stages)


def _models(name: str, loop: Mapping[str, Any], device: str) -> Iterator[Check]:
    loaded, wanted = loop["loaded"], loop["attention"]
    for stage in (*TEACHER, *STUDENT):
        models = loaded.get(stage, [])
        if not models:
            yield _unseen(f"{stage}: its model", loop["stages"], stage)
        for model in models:
            yield Check(f"{stage}: attention", model["attention"] == wanted, f"{model['attention']}, asked: {wanted}")
            yield Check(f"{stage}: device", model["device"] == device, f"{model['device']}, asked: {device}")
            if stage in TEACHER and name == "qlora":
                yield _four_bit(stage, model)
                continue
            if stage in TEACHER:
                packed = sum(kind["layers"] for kind in model.get("four_bit", []))
                yield Check(f"{stage}: not quantised", not packed, f"{packed} layers in 4 bits")
            if device == "cuda":
                yield Check(f"{stage}: precision", model["dtype"] == "bfloat16", model["dtype"])
    if device == "cuda":
        for model in loaded.get("probe", []):
            yield _fast(model)


def _fast(model: Mapping[str, Any]) -> Check:
    """Whether probes went by what the engine has for a GPU."""
    way = "probe: variable-length attention"
    if model.get("varlen"):
        return Check(way, True, "used")
    return Check(way, False, f"not used: {model.get('why_not', {}).get('varlen', 'nothing is known of it')}")


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
            continue
        if "memory_kept" in row:
            left = row["memory_kept"]
            yield Check(f"{stage}: memory given back", left <= TOLERANCE, f"{left / 1e6:.0f} MB kept, at most 200 MB")
        if "device_kept" in row:
            left, most = row["device_kept"], TOLERANCE + (CONTEXT if row["first_on_device"] else 0)
            found = f"{left / 1e6:.0f} MB kept, at most {most / 1e6:.0f} MB"
            yield Check(f"{stage}: memory given back, by the GPU's count", left <= most, found)


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


def _teacher(moved: Mapping[str, Any]) -> Check:
    """Whether the adapter is large enough to have an effect; any gradient at all would move it."""
    relative = moved.get("relative", 0.0)
    found = f"|Δw| / |w| {relative:.2g}, at least {LITTLE:g}" if moved else "nothing is known of it"
    return Check("the teacher's weights have moved", relative >= LITTLE, found)


def _moved(loop: Mapping[str, Any]) -> Check:
    """Of the student, at the recipe's rate: weights in bfloat16 alone would hardly change."""
    moved = loop["moved"].get("sft") or {}
    share = moved.get("changed")
    if share is None:
        return Check("the student's weights have changed", False, "nothing is known of it")
    found = f"{100 * share:.0f} % of them at a rate of {loop['student_rate']:g}, |Δw| / |w| {moved['relative']:.2g}"
    return Check("the student's weights have changed", share >= FEW, f"{found}; at least {100 * FEW:.0f} %")


def _same(who: str, compared: Mapping[str, Any]) -> Check:
    """The engine's replies against the model's own."""
    found = f"{compared['same']} of {compared['replies']} the same"
    if compared["largest_margin"] is not None:
        found += f", the others part where the next token is {compared['largest_margin']:.2g} nats behind at most"
    wrong = compared["first_wrong"]
    if wrong is not None:
        found += (
            f" (near-ties: {compared['near_tie']:g}); reply {wrong['reply']} parts at token {wrong['token']}: "
            f"{wrong['engine'][:80]!r} for {wrong['plain'][:80]!r}"
        )
    return Check(f"replies of the {who}", wrong is None, found)


def _some(what: str, stages: Mapping[str, Any], stage: str, rows: str) -> Check:
    count = stages.get(stage, {}).get("kept", {}).get(rows, 0)
    return Check(what, count > 0, str(count))
