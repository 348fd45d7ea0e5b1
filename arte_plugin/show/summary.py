"""What a run shows at its end, and `arte status` shows again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arte_plugin.config.arte import ArteArgs
from arte_plugin.diagnostics.alignment import alignment_lines
from arte_plugin.rows import Result
from arte_plugin.run.earlier_config import outdated
from arte_plugin.run.manifest import Manifest
from arte_plugin.run.trainings import trainings
from arte_plugin.show.alignment import CHECK, alignment_report, remarks
from arte_plugin.show.tables import Lines, format_table, stage_table, wrap
from arte_plugin.stages import STAGES
from arte_plugin.stages.near_duplicates import near_lines, none_found

#: Columns of the preference set's table that need no check of its consistency.
_OF_THE_SET = 7


def summary(folder: Path, args: ArteArgs | None = None) -> str:
    """The stage table of a run folder and, once they are there, the tables of the preference set and of the results.

    Students are those of `args`, or all that were ever trained there. Of stages that were made from something else than
    what lies there now, the table says so, and what they found is left out.
    """
    stages = Manifest(folder / "manifest.json").stages()
    if args is not None:
        # The manifest remembers the students of earlier versions of the YAML too.
        wanted = {training.stage for training in trainings(args)}
        # With `from_run` the check is that run's; one from before it was asked for is of another teacher.
        if not args.align.check or args.from_run:
            stages.pop(CHECK, None)
        stages = {name: row for name, row in stages.items() if name.partition("/")[0] != "sft" or name in wanted}
    if not stages:
        return f"Nothing has been run in {folder} yet."
    from arte_plugin.stages.set_consistency import preference_set_report

    old = outdated(folder, stages, args)
    table = stage_table(stages, [*STAGES, "rounds"], old)
    shown = f"\n{folder}\n\n{table}\n"
    if near := near_lines(folder):
        shown += f"\n{format_table(near)}\n"
    elif none := none_found(folder):
        shown += f"\n{none}\n"
    if "preference-set" not in old and (sets := preference_set_report(folder)):
        shown += preference_set_tables(sets)
    if "pair" in stages.keys() - old:
        shown += _gap_tables(folder)
    if CHECK in stages.keys() - old and (report := alignment_report(folder)):
        shown += (
            f"\n{format_table(alignment_lines(report))}\n\n" + "\n".join(wrap(line) for line in remarks(report)) + "\n"
        )
    if "evaluate" in stages.keys() - old:
        shown += _result_tables(folder / STAGES["evaluate"])
    rounds_shown = (args is None or args.rounds > 1) and "evaluate" not in old
    if rounds_shown and (file := folder / "rounds.json").is_file():
        from arte_plugin.loop.rounds import round_lines

        rounds = json.loads(file.read_text(encoding="utf-8"))
        shown += f"\n{format_table(round_lines(rounds))}\n"
    return shown


def preference_set_tables(report: Mapping[str, Any]) -> str:
    """What is known of each task's preference set, and, below it, how far probes on it agree with those on all."""
    from arte_plugin.diagnostics.preference_set import preference_set_lines

    # Of one task after another: where one has the lines of the task before, they are not to be taken for those.
    of_tasks = [preference_set_lines({name: task}) for name, task in report.items()]
    known = [list(dict.fromkeys(tuple(line[:_OF_THE_SET]) for line in lines)) for _, *lines in of_tasks]
    tables: list[Lines] = [[of_tasks[0][0][:_OF_THE_SET], *(list(line) for lines in known for line in lines)]]
    students = list(dict.fromkeys(student for task in report.values() for student in task["consistency"]))
    for student in students:
        lines = []
        for name, task in report.items():
            if found := task["consistency"].get(student):
                head, *lines_of_task = preference_set_lines({name: {**task, "consistency": {student: found}}})
                lines += [[*line[:2], *line[_OF_THE_SET:]] for line in lines_of_task]
        first = f"task, by {student}" if len(students) > 1 else "task"
        tables.append([[first, "preference set", *head[_OF_THE_SET:]], *lines])
    return "".join(f"\n{format_table(table)}\n" for table in tables)


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
    from arte_plugin.show.benchmark_table import benchmark_lines, notes
    from arte_plugin.show.results import result_lines
    from arte_plugin.stages.benchmark_results import read_benchmarks
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
