"""The tables of diagnostics: those that ask nobody, made on demand from what lies in a run folder (`arte status`)."""

from collections.abc import Sequence
from pathlib import Path

from arte_plugin.config.arte import ArteArgs
from arte_plugin.data.tasks import load_tasks
from arte_plugin.plugs import Lines
from arte_plugin.run.earlier_config import outdated
from arte_plugin.run.evidence import NobodyAsked, RunFiles
from arte_plugin.run.manifest import Manifest
from arte_plugin.show.tables import format_table, wrap
from arte_plugin.stages import STAGES
from arte_plugin.stages.diagnosing import free, tables

#: Where there is nothing to tell yet, what would have to be there.
_NOTHING = "nothing to show yet"


def on_demand(folder: Path, args: ArteArgs) -> str:
    """The tables of `free` of a run folder (`OUTPUT_DIR/arte`), as far as its stages are done; no model is asked.

    Raises what `load_tasks` does.
    """
    stages = Manifest(folder / "manifest.json").stages()
    if not stages:
        return f"Nothing has been run in {folder} yet."
    done = stages.keys() - outdated(folder, stages, args)
    elsewhere = Path(args.from_run).expanduser() / "arte" if args.from_run else None
    drafts = Path(args.pair.drafts) if args.pair.drafts else elsewhere and elsewhere / STAGES["elicit"] / "drafts.jsonl"
    scores = Path(args.pair.scores) if args.pair.scores else elsewhere and elsewhere / STAGES["probe"] / "scores.jsonl"
    tasks = load_tasks(args.tasks, args.seed, args.held_out if args.rounds > 1 else 0.0)
    # Another run's scores are of that run's students.
    several = len(args.students) > 1 and not scores
    weights = {one.name: one.weight for one in args.students} if several else {}
    files = RunFiles(folder, done, list(args.combinations), drafts or None, scores or None, weights)
    made = tables(free(), tasks, files.evidence(tasks), NobodyAsked(args.sampling_seed))
    parts = [f"{wrap(title)}\n\n{shown(lines) if lines else _NOTHING}" for title, lines in made.values()]
    return "\n" + "\n\n".join(parts) + "\n"


def shown(lines: Lines) -> str:
    """A diagnostic's table; where it is by task, one below the name of each: a column of names would take its room."""
    head, *rows = lines
    if head[0] != "task":
        return format_table(lines)
    by_task: dict[str, list[Sequence[str]]] = {}
    name = ""
    for row in rows:
        # A row without a name belongs to the task above it.
        name = row[0] or name
        by_task.setdefault(name, []).append(row[1:])
    return "\n\n".join(f"{name}:\n\n{format_table([head[1:], *of_task])}" for name, of_task in by_task.items())
