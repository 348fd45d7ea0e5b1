"""What the student made of each preference question with each draft, as it lies beside the scores."""

import math
from collections.abc import Sequence
from pathlib import Path

from arte_plugin.rows import AnswerLikelihood, Probe, Score, iter_rows

#: What the student made of a preference question, 0..1, by student, draft and question.
Cells = dict[tuple[str, str], dict[str, float]]

_KINDS: dict[str, type[Probe] | type[AnswerLikelihood]] = {
    "probes.jsonl": Probe,
    "likelihoods.jsonl": AnswerLikelihood,
}


def cell_files(scores_file: Path) -> list[Path]:
    """What lies beside the scores and may have made them."""
    return [file for name in _KINDS if (file := scores_file.with_name(name)).is_file()]


def read_cells(scores_file: Path, scores: Sequence[Score]) -> Cells:
    """The probes, or likelihoods, that lie beside the scores; empty where there are none that make these scores."""
    if any(row.signals for row in scores):
        return {}
    for path in cell_files(scores_file):
        cells: Cells = {}
        row: Probe | AnswerLikelihood
        for row in iter_rows(path, _KINDS[path.name]):
            value = float(row.outcome == "correct") if isinstance(row, Probe) else math.exp(row.log_probability)
            cells.setdefault((row.student, row.draft_id), {})[row.preference_id] = value
        made = all(
            len(of_draft := cells.get((row.student, row.draft_id), {})) == row.n
            and abs(sum(of_draft.values()) - row.n * row.score) < 1e-6
            for row in scores
        )
        if made:
            return cells
    return {}
