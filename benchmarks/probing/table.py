"""Medians, targets and tables from the results of `run.py`; takes nothing but their JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from arte_plugin.show.tables import markdown_table

#: How much faster than whom the engine is to be, at a prefix of `TARGET_PREFIX` tokens, and how much of what it
#: computes may be padding, at any.
TARGET_PREFIX = 512
TARGET_SPEED = {"naive": 3.0, "batched": 2.0}
TARGET_PADDING = 0.1
#: How much faster than other projects' engines ours is to be, at any prefix.
TARGET_AHEAD = {"openvino": 1.0, "vllm": 1.0}

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """Medians of one contender's turns at one work; None for what can't be told."""

    contender: str
    turns: int
    #: Why there are no figures.
    error: str | None = None
    probes: int = 0
    probes_per_second: float = 0.0
    #: Those of the slowest and of the fastest turn.
    spread: tuple[float, float] = (0.0, 0.0)
    tokens_per_second: float = 0.0
    #: Prompt tokens computed, padding and all, over those in the prompts.
    computed: float | None = None
    #: Of the tokens computed: padding, and rows that went on after their end.
    padding: float | None = None
    #: Of the tokens computed: those that need not have been, had the prefix been computed once and nothing else twice.
    surplus: float | None = None
    peak_memory: float | None = None
    flops_share: float | None = None
    bytes_share: float | None = None
    #: Replies that are equal to another contender's, and how many were compared, in all turns.
    equal: int = 0
    compared: int = 0
    #: Tokens generated behind the end of a reply, over all generated.
    extra: float = 0.0


def works(results: Results) -> list[str]:
    """The names of what was asked, in order."""
    return list(dict.fromkeys(row["work"] for row in results["turns"]))


def summaries(results: Results, work: str) -> list[Summary]:
    """One for each contender, in their order."""
    rows = [row for row in results["turns"] if row["work"] == work]
    return [
        summarise(name, [row for row in rows if row["contender"] == name], results["ceilings"])
        for name in results["settings"]["contenders"]
        if any(row["contender"] == name for row in rows)
    ]


def summarise(contender: str, rows: Sequence[Mapping[str, Any]], ceilings: Sequence[Mapping[str, float]]) -> Summary:
    """The medians of `rows`, which are all of one contender and work."""
    if failed := [row["error"] for row in rows if row.get("error")]:
        return Summary(contender, len(rows), error=failed[0])

    def middle(value) -> float | None:
        values = [value(row) for row in rows]
        return None if None in values else median(values)

    def share(key: str) -> float | None:
        ceiling = median(one[f"{key}_per_second"] for one in ceilings)
        return middle(lambda row: row[key] / row["seconds"] / ceiling if row.get(key) is not None else None)

    speeds = [row["probes"] / row["seconds"] for row in rows]
    return Summary(
        contender=contender,
        turns=len(rows),
        probes=rows[0]["probes"],
        probes_per_second=median(speeds),
        spread=(min(speeds), max(speeds)),
        tokens_per_second=median((row["new_tokens"] - row["extra_tokens"]) / row["seconds"] for row in rows),
        computed=middle(lambda row: _computed(row) / row["prompt_tokens"] if row.get("counts") else None),
        padding=middle(lambda row: _padding(row) / row["counts"]["tokens"] if row.get("counts") else None),
        surplus=middle(lambda row: _surplus(row) / row["counts"]["tokens"] if row.get("counts") else None),
        peak_memory=middle(lambda row: row.get("peak_memory")),
        flops_share=share("flops"),
        bytes_share=share("bytes"),
        equal=sum(row["equal"] for row in rows),
        compared=sum(row["compared"] for row in rows),
        extra=median(row["extra_tokens"] / row["new_tokens"] for row in rows),
    )


def _decoded(row: Mapping[str, Any]) -> int:
    """Tokens computed while decoding: the first token of a reply comes with its prompt's own call.

    Where rows are stepped together, one that is over goes on until all are.
    """
    return max(row["counts"]["stepped"], row["new_tokens"] - row["probes"])


def _computed(row: Mapping[str, Any]) -> int:
    return row["counts"]["tokens"] - _decoded(row)


def _padding(row: Mapping[str, Any]) -> int:
    return row["counts"]["masked"] + _decoded(row) - (row["new_tokens"] - row["probes"])


def _surplus(row: Mapping[str, Any]) -> int:
    return max(0, row["counts"]["tokens"] - row["needed_tokens"] - (row["new_tokens"] - row["probes"]))


def overview(results: Results) -> str:
    """Probes/s of everybody at every work, those of the slowest and the fastest turn behind them, in Markdown."""
    titles = results["settings"]["contenders"]
    lines = [["prefix", "replies", *titles.values()]]
    for work in works(results):
        found = {one.contender: one for one in summaries(results, work)}
        lines.append([*_about(results, work), *[_speed(found.get(name)) for name in titles]])
    return markdown_table(lines)


def table(results: Results, work: str) -> str:
    """The contenders at one work as a Markdown table, the speeds against the first one's too."""
    head = ["", "probes/s", "against the first", "prompt tokens computed", "padding", "generated tokens/s"]
    lines = [[*head, "peak memory", "of the matmul ceiling", "of the copy ceiling", "replies equal"]]
    found = summaries(results, work)
    first = next((one for one in found if not one.error), None)
    titles = results["settings"]["contenders"]
    for one in found:
        if one.error or first is None:
            lines.append([titles[one.contender], f"failed: {one.error}".replace("|", "\\|"), *[""] * 8])
            continue
        lines.append(
            [
                titles[one.contender],
                f"{one.probes_per_second:.2f}",
                f"{one.probes_per_second / first.probes_per_second:.2f} x",
                _percent(one.computed),
                _percent(one.padding),
                f"{one.tokens_per_second:.1f}",
                "-" if one.peak_memory is None else f"{one.peak_memory / 2**30:.2f} GiB",
                _percent(one.flops_share),
                _percent(one.bytes_share),
                f"{one.equal} of {one.compared}" if one.compared else "-",
            ]
        )
    return markdown_table(lines)


def against(results: Results) -> list[list[str]]:
    """Our engine's speed over that of other projects' engines, work by work; a table's lines, the head first.

    Medians of the turns' ratios, the smallest and the largest behind them.
    """
    lines = [["prefix", "replies", "against", "our engine's speed", "replies equal to ours"]]
    for work in works(results):
        for other in TARGET_AHEAD:
            if ratios := _ratios(results, work, other):
                rows = [row for row in _rows(results, work, other).values() if "equal_to_engine" in row]
                equal, compared = (sum(row[key] for row in rows) for key in ("equal_to_engine", "compared_with_engine"))
                spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
                title = results["settings"]["contenders"][other]
                said = [title, f"{median(ratios):.2f} x{spread}", f"{equal} of {compared}"]
                lines.append([*_about(results, work), *said])
    return lines


def _ratios(results: Results, work: str, other: str) -> list[float]:
    """Of each turn in which both were asked: our engine's probes/s over those of `other`."""
    ours, theirs = (_rows(results, work, name) for name in ("engine", other))
    speed = {turn: row["probes"] / row["seconds"] for turn, row in ours.items()}
    return [speed[turn] / (row["probes"] / row["seconds"]) for turn, row in theirs.items() if turn in speed]


def _rows(results: Results, work: str, contender: str) -> dict[int, Mapping[str, Any]]:
    """By turn, what a contender did at a work; without the turns in which it failed."""
    rows = [row for row in results["turns"] if row["work"] == work and row["contender"] == contender]
    return {row["turn"]: row for row in rows if not row.get("error")}


def loading(results: Results) -> str:
    """How long the model took to load, which no figure counts, or nothing where nobody said."""
    said = []
    for name, title in results["settings"]["contenders"].items():
        rows = [row for row in results["turns"] if row["contender"] == name]
        # Those of a turn have the same, for it loads once.
        if seconds := [row["load_seconds"] for row in rows if "load_seconds" in row]:
            said.append(f"{title} {median(seconds):.0f} s")
    exported = results.get("export_seconds")
    more = f" OpenVINO's form of the model took {exported:.0f} s to write." if exported else ""
    return f"Not counted: loading, with what is compiled for it: {', '.join(said)}.{more}" if said else ""


def notes(results: Results, work: str) -> list[str]:
    """What must be known to read the table of one work."""
    titles = results["settings"]["contenders"]
    turns = max(one.turns for one in summaries(results, work))
    said = [f"Medians of {turns} turns." if turns > 1 else "One turn."]
    probes = results["settings"]["siblings"]
    for one in summaries(results, work):
        if not one.error and one.probes < probes:
            said.append(f"{titles[one.contender]} was asked {one.probes} of the {probes} probes, evenly spread.")
        if one.extra:
            said.append(
                f"{titles[one.contender]} knows no stop strings: {_percent(one.extra)} of its generated tokens lie "
                "behind the end of a reply. They cost their time, and count as no generated tokens."
            )
    wrong = [row for row in results["turns"] if row["work"] == work and not row.get("error") and not row["length_kept"]]
    for name in dict.fromkeys(row["contender"] for row in wrong):
        said.append(f"{titles[name]} gave replies of other lengths than were asked for.")
    return said


def targets(results: Results) -> list[list[str]]:
    """What was asked for, what came out, and whether that is met; a table's lines, the head first."""
    lines = [["target", "at", "measured", "met"]]
    for work in works(results):
        found = {one.contender: one for one in summaries(results, work) if not one.error}
        if (engine := found.get("engine")) is None:
            continue
        for other, wanted in TARGET_AHEAD.items():
            if ratios := _ratios(results, work, other):
                factor = median(ratios)
                said = f"at least {wanted:.0f} x the speed of {results['settings']['contenders'][other]}"
                lines.append([said, work, f"{factor:.2f} x", "yes" if factor >= wanted else "no"])
        if int(work.split("/")[0]) == TARGET_PREFIX:
            for other, wanted in TARGET_SPEED.items():
                if other in found:
                    factor = engine.probes_per_second / found[other].probes_per_second
                    title = results["settings"]["contenders"][other]
                    said = f"{wanted:.0f} x the speed of {title}"
                    lines.append([said, work, f"{factor:.2f} x", "yes" if factor >= wanted else "no"])
        if engine.padding is not None and engine.surplus is not None:
            # What the mask does not show is padding all the same, if it is more than what sharing leaves to compute.
            waste = max(engine.padding, engine.surplus)
            met = "yes" if waste <= TARGET_PADDING else "no"
            lines.append([f"padding at most {_percent(TARGET_PADDING)}", work, _percent(waste), met])
    return lines


def machine(results: Results) -> str:
    """What it ran on, and how, in a few lines of Markdown."""
    about, settings = results["machine"], results["settings"]
    ceilings = results["ceilings"]
    matmul = median(one["flops_per_second"] for one in ceilings)
    copy = median(one["bytes_per_second"] for one in ceilings)
    gpu = f", {about['gpu']}" if about["gpu"] else ""
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['memory'] / 2**30:.0f} GiB{gpu}; {settings['threads']} "
        f"threads, {settings['dtype']}; {', '.join(f'{name} {which}' for name, which in about['versions'].items())}.\n"
        f"Ceilings: one large matmul {matmul / 1e9:.0f} GFLOP/s, one large copy {copy / 1e9:.1f} GB/s.\n"
        f"Model: {settings['model']}, {results['parameters'] / 1e6:.0f} M parameters. Questions: {settings['task']}. "
        f"{settings['siblings']} probes with one prefix, padded batches of {settings['batch_size']}."
    )


def page(results: Results, level: str = "##") -> str:
    """Everything about one machine: how it is made, every table with its notes, and the targets."""
    parts = [machine(results)]
    if len(works(results)) > 1:
        parts += [f"{level} Probes/s", overview(results)]
    if said := loading(results):
        parts.append(said)
    if len(lines := against(results)) > 1:
        parts += [f"{level} Our engine against others", markdown_table(lines)]
    for work in works(results):
        parts.append(f"{level} Prefix of {', '.join(_about(results, work))}")
        parts.append(table(results, work))
        if said := notes(results, work):
            parts.append("\n".join(f"- {note}" for note in said))
    if len(lines := targets(results)) > 1:
        parts += [f"{level} Targets", markdown_table(lines)]
    return "\n\n".join(parts) + "\n"


def _about(results: Results, work: str) -> tuple[str, str]:
    """The length of a work's prefix, and of its replies."""
    prefix = median(row["prefix_tokens"] for row in results["turns"] if row["work"] == work)
    fixed = f"{results['settings']['fixed_tokens']} new tokens each"
    return f"{prefix:.0f} tokens", fixed if work.split("/")[1] == "fixed" else "real lengths"


def _speed(one: Summary | None) -> str:
    if one is None or one.error:
        return "-" if one is None else "failed"
    slowest, fastest = one.spread
    return f"{one.probes_per_second:.2f}" + (f" ({slowest:.2f} to {fastest:.2f})" if one.turns > 1 else "")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
