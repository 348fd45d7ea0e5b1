"""The results of one device as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from arte_plugin.show.tables import duration, markdown_table, size


def page(results: Mapping[str, Any], heading: str) -> str:
    """Sections under headings of the depth `heading`, such as `##`."""
    device = results["device"]
    what = f"{device['name']}"
    if device["kind"] == "cuda":
        what += (
            f", {device['memory'] / 1e9:.0f} GB, compute capability {device['capability']}, driver {device['driver']}, "
            f"CUDA {device['cuda']}"
        )
    versions = ", ".join(f"{name} {version}" for name, version in device["versions"].items())
    calls = results["calls"]
    took = duration(sum(call["seconds"] for call in calls))
    parts = [
        f"{what}. {versions}.",
        f"Size `{results['size']}`, {took} in {len(calls)} call{'s' if len(calls) > 1 else ''}. {_attention(results)}",
        f"{heading} Checks",
        markdown_table([["check", "", "found"], *_checks(results["checks"])]),
    ]
    for name, loop in results["loops"].items():
        parts += [
            f"{heading} {name}: stages",
            markdown_table(_stages(loop["stages"])),
            f"{heading} {name}: losses",
            markdown_table(_losses(loop["losses"])),
            f"{heading} {name}: models, as they were loaded",
            markdown_table(_models(loop["loaded"])),
        ]
    return "\n\n".join(parts) + "\n"


def _attention(results: Mapping[str, Any]) -> str:
    attention = results["attention"]
    said = f"Attention: `{attention['used']}`."
    if attention["passed_over"]:
        reasons = "; ".join(f"`{name}`, {reason}" for name, reason in attention["passed_over"].items())
        said += f" Passed over: {reasons}."
    return said


def _stages(stages: Mapping[str, Any]) -> list[list[str]]:
    memory = ["peak allocated", "peak reserved", "not given back", "by the GPU's count"]
    lines = [["stage", "time", *memory, "asked", "prompt tokens/s", "new tokens/s"]]
    for name, row in stages.items():
        taken = row["memory"]
        lines.append(
            [
                name,
                duration(row["seconds"]),
                *(size(taken[key]) if key in taken else "" for key in ("allocated", "reserved")),
                *(f"{row[key] / 1e6:.0f} MB" if key in row else "" for key in ("memory_kept", "device_kept")),
                f"{row['asked']:,}" if "asked" in row else "",
                *(f"{row[f'{kind}_tokens_per_second']:,.0f}" if "asked" in row else "" for kind in ("prompt", "new")),
            ]
        )
    return lines


def _losses(losses: Mapping[str, Sequence[float]]) -> list[list[str]]:
    lines = [["training", "steps", "loss at each of at most twelve steps, evenly spaced"]]
    for name, curve in losses.items():
        last = len(curve) - 1
        places = sorted({round(i * last / 11) for i in range(12)}) if curve else []
        lines.append([name, str(len(curve)), ", ".join(f"{curve[place]:.3f}" for place in places)])
    return lines


def _models(loaded: Mapping[str, Any]) -> list[list[str]]:
    lines = [["stage", "parameters", "linear layers", "attention", "precision", "device"]]
    for stage, models in loaded.items():
        for model in models:
            linear = ", ".join(f"{count} {name}" for name, count in model["linear"].items())
            kinds = [
                f"{kind['kind']}{', double quantisation' if kind['double'] else ''}"
                for kind in model.get("four_bit", [])
            ]
            if model["adapted"]:
                kinds.append(f"{model['adapted']} with an adapter")
            lines.append(
                [
                    stage,
                    f"{model['parameters'] / 1e6:.1f}M",
                    linear + (f" ({'; '.join(kinds)})" if kinds else ""),
                    f"{model['attention']}{', varlen' if model.get('varlen') else ''}",
                    model["dtype"],
                    model["device"],
                ]
            )
    return lines


def _checks(checks: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [[one["what"], "passed" if one["passed"] else "**failed**", one["found"]] for one in checks]
