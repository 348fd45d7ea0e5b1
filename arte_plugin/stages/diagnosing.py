"""The tables of diagnostics, from evidence alone or with models at hand."""

from collections.abc import Mapping, Sequence

from arte_plugin.config.plugs import Chosen
from arte_plugin.data.tasks import Task
from arte_plugin.diagnostics import DIAGNOSTICS
from arte_plugin.plan.work import Sizes
from arte_plugin.plugs import Asking, Evidence, Lines
from arte_plugin.rows import Result

#: Sizes of a task that has of everything.
_SOME = Sizes(questions=10, techniques=4, validation=10, size=5, shots=[0], examples=10, test=10, held_out=5, seeds=3)


def free() -> list[Chosen]:
    """Every diagnostic with its defaults, but for those that ask a model."""
    all_of_them = [Chosen("diagnostics", name, kind, kind.Settings()) for name, kind in DIAGNOSTICS.items()]
    return [one for one in all_of_them if not asks(one)]


def asks(one: Chosen) -> bool:
    """Whether a diagnostic asks a model, with these settings; its calls tell."""
    return any(work.calls for work in one.made().calls(_SOME))


def tables(
    chosen: Sequence[Chosen], tasks: Sequence[Task], evidence: Mapping[str, Evidence], asking: Asking
) -> dict[str, tuple[str, Lines]]:
    """Title and table of each diagnostic, by its name; a table without a line is left empty."""
    results = results_of(evidence)
    made = {}
    for one in chosen:
        diagnostic = one.made()
        lines = diagnostic.table(tasks, evidence, results, asking)
        made[one.name] = diagnostic.title, lines if len(lines) > 1 else []
    return made


def results_of(evidence: Mapping[str, Evidence]) -> list[Result]:
    """The accuracies of stage 8, if it is done."""
    report = next((known.reports for known in evidence.values()), {}).get("evaluate", {})
    return [Result(**row) for row in report.get("results", [])]
