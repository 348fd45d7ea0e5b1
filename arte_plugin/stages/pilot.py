"""Stage 2 with drafts as respondents (`preference_set.pilot_drafts`).

Not in the paper, whose respondents are twenty models at several numbers of examples. What a preference question has to
tell apart is drafts, and the student shown a draft is a respondent: a few drafts, drawn by seed, are probed on all
validation questions, and those on the chosen questions are not asked again in stage 3. `docs/preference-set.md` has
what this chooses, by simulation and on real probes.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.data.tasks import Task
from arte_plugin.models.model import Model
from arte_plugin.rows import Draft, Response, iter_rows
from arte_plugin.stages import STAGES
from arte_plugin.stages.choosing import preference_question
from arte_plugin.stages.probing import probe

#: Between the student and the draft in a respondent's name.
_WITH = " with "


def drafts_that_chose(scores_file: Path) -> set[str]:
    """The drafts that were respondents in the run of these scores, by `02-preference-set/responses.jsonl` beside them.

    Empty where the scores lie elsewhere. A respondent of another kind may have such a name: look for drafts' own ids.
    """
    file = scores_file.parent.parent / STAGES["preference-set"] / "responses.jsonl"
    if not file.is_file():
        return set()
    named = (row.respondent.rpartition(_WITH) for row in iter_rows(file, Response))
    return {draft_id for _, between, draft_id in named if between}


def drawn(drafts: Sequence[Draft], count: int, seed: int) -> list[Draft]:
    """`count` drafts of one task, each of another question as long as there are enough; all, if there are no more."""
    if len(drafts) <= count:
        return list(drafts)
    rng = random.Random(f"{seed}/{drafts[0].task}/pilot")
    order = rng.sample(list(drafts), len(drafts))
    seen: dict[str, int] = {}
    turns = []
    for draft in order:
        turns.append(seen.get(draft.question_id, 0))
        seen[draft.question_id] = turns[-1] + 1
    first = sorted(range(len(order)), key=lambda i: turns[i])[:count]
    taken = {order[i].draft_id for i in first}
    return [draft for draft in drafts if draft.draft_id in taken]


def pilot(task: Task, drafts: Sequence[Draft], student: Model, settings: ProbeArgs) -> list[Response]:
    """What the student makes of every validation question with each of the drafts as its one example."""
    questions = [preference_question(question) for question in task.validation]
    return [
        Response(
            respondent=f"{row.student}{_WITH}{row.draft_id}",
            shots=1,
            task=row.task,
            question_id=row.preference_id,
            response=row.response,
            answer=row.answer,
            outcome=row.outcome,
            finish=row.finish,
            new_tokens=row.new_tokens,
            asked_again=row.asked_again,
        )
        for row in probe(task, drafts, questions, student, settings)
    ]
