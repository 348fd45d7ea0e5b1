"""What a run shows at its end, and `arte status` shows again."""

import json
from pathlib import Path

from arte_plugin.alignment import CHECK, alignment_lines, alignment_report, remarks
from arte_plugin.args import ArteArgs
from arte_plugin.manifest import Manifest
from arte_plugin.near_duplicates import near_lines
from arte_plugin.rows import Result
from arte_plugin.stages import STAGES
from arte_plugin.tables import format_table, stage_table, wrap
from arte_plugin.trainings import trainings


def summary(folder: Path, args: ArteArgs | None = None) -> str:
    """The stage table of a run folder and, once they are there, the tables of the preference set and of the results.

    Students are those of `args`, or all that were ever trained there.
    """
    stages = Manifest(folder / "manifest.json").stages()
    if args is not None:
        # The manifest remembers the students of earlier versions of the YAML too.
        wanted = {training.stage for training in trainings(args)}
        if not args.align.check:
            stages.pop(CHECK, None)
        stages = {name: row for name, row in stages.items() if name.partition("/")[0] != "sft" or name in wanted}
    if not stages:
        return f"Nothing has been run in {folder} yet."
    table = stage_table(stages, [*STAGES, "rounds"])
    shown = f"\n{folder}\n\n{table}\n"
    if near := near_lines(folder):
        shown += f"\n{format_table(near)}\n"
    shown += _preference_set_table(folder)
    if "pair" in stages:
        shown += _gap_tables(folder)
    if CHECK in stages and (report := alignment_report(folder)):
        shown += (
            f"\n{format_table(alignment_lines(report))}\n\n" + "\n".join(wrap(line) for line in remarks(report)) + "\n"
        )
    if "evaluate" in stages:
        shown += _result_tables(folder / STAGES["evaluate"])
    if (args is None or args.rounds > 1) and (file := folder / "rounds.json").is_file():
        from arte_plugin.rounds import round_lines

        rounds = json.loads(file.read_text(encoding="utf-8"))
        shown += f"\n{format_table(round_lines(rounds))}\n"
    return shown


def _preference_set_table(folder: Path) -> str:
    from arte_plugin.stages.consistency import preference_set_lines, preference_set_report

    report = preference_set_report(folder)
    return f"\n{format_table(preference_set_lines(report))}\n" if report else ""


def _gap_tables(folder: Path) -> str:
    from arte_plugin.stages.gaps import gap_lines, gap_remarks, like_chance, technique_lines

    file = folder / STAGES["pair"] / "gaps.json"
    # Early versions wrote none.
    if not file.is_file():
        return ""
    report = json.loads(file.read_text(encoding="utf-8"))
    warning = like_chance(report)
    remarks = gap_remarks(report) + ([f"Warning: {warning}"] if warning else [])
    wrapped = "\n".join(wrap(remark) for remark in remarks)
    tables = [format_table(gap_lines(report)), format_table(technique_lines(report)), wrapped]
    return "".join(f"\n{table}\n" for table in tables if table)


def _result_tables(folder: Path) -> str:
    from arte_plugin.results import result_lines
    from arte_plugin.stages.benchmarks import benchmark_lines, notes, read_benchmarks
    from arte_plugin.stages.compare import Comparison, comparison_lines

    report = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results = result_lines([Result(**row) for row in report["results"]])
    comparisons = comparison_lines([Comparison(**row) for row in report["comparisons"]])
    shown = f"\n{format_table(results)}\n\n{format_table(comparisons)}\n"
    if benchmarks := read_benchmarks(folder):
        if benchmarks.results:
            shown += f"\n{format_table(benchmark_lines(benchmarks.results))}\n"
        shown += "\n" + "\n".join(wrap(note) for note in notes(benchmarks)) + "\n"
    return shown
