"""All pairs of a question's rationales that are far enough apart (Learning by Teaching, M2, arXiv 2406.14629, 3.2)."""

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.pairings.best_worst import STAGE, at_most, by_question, no_preference, question_level, rationale_pair
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Bounds, Evidence, Scored
from arte_plugin.rows import Draft, Dropped, PreferencePair
from arte_plugin.stages import ties


class ThresholdArgs(Block):
    """Settings of `threshold`."""

    gap: float = Field(
        0.3, ge=0, lt=1, description="Two rationales of a question make a pair if they differ by more than this in s_r."
    )
    above: float | None = Field(None, ge=0, le=1, description="What is chosen has at least this score, too.")
    below: float | None = Field(None, ge=0, le=1, description="What is rejected has at most this score, too.")
    per_question: int = Field(8, ge=1, description="Pairs a question at most, the widest gaps first.")
    quantile: float = Field(
        0.25,
        gt=0,
        le=0.5,
        description="As `pair.quantile`: the paper has no question level, so that is `best_worst`'s.",
    )


class Threshold:
    """Every two rationales of a question that differ by more than a gap, and questions as in `best_worst`.

    Couples that are closer, too long or of one text are dropped, each by itself.
    """

    Settings: ClassVar[type[Block]] = ThresholdArgs
    version: ClassVar[int] = 1
    costs: ClassVar[str] = "nothing"
    trains: ClassVar[Literal["teacher", "student"]] = "teacher"

    def __init__(self, settings: ThresholdArgs) -> None:
        self.settings = settings

    def calls(self, sizes: Sizes) -> Iterable[Work]:
        """None."""
        return ()

    def pairs(
        self, task: str, drafts: Sequence[Draft], scored: Scored, evidence: Evidence, bounds: Bounds,
        rng: random.Random,
    ) -> Iterator[PreferencePair | Dropped]:  # fmt: skip
        """As `Pairing.pairs`; the question level comes first."""
        yield from question_level(task, drafts, scored.questions, bounds, rng, self.settings.quantile)
        made: list[PreferencePair] = []
        for group in by_question(drafts).values():
            for row in self._of_question(group, scored.drafts, bounds):
                if isinstance(row, Dropped):
                    yield row
                else:
                    made.append(row)
        yield from at_most(made, bounds.rationale_pairs, "rationale_surplus", rng)

    def _of_question(
        self, group: Sequence[Draft], scored: Mapping[str, float], bounds: Bounds
    ) -> Iterator[PreferencePair | Dropped]:
        if len(group) < 2:
            yield Dropped(STAGE, "rationale_alone", group[0].task, group[0].question_id, group[0].question)
            return
        by_id = {draft.draft_id: draft for draft in group}
        # Equal scores, and below equal gaps, are put in order by chance: no technique comes first by its name.
        seed = ties.of_question(bounds.seed, group[0].task, group[0].question_id)
        order = ties.ranked({key: scored[key] for key in by_id}, seed)
        couples = {f"{best}>{worst}": (best, worst) for best, worst in itertools.combinations(order, 2)}
        gaps = {name: scored[best] - scored[worst] for name, (best, worst) in couples.items()}
        kept = 0
        for name in ties.ranked(gaps, seed):
            best, worst = (by_id[key] for key in couples[name])
            reason = self._reason(best, worst, scored, bounds)
            if reason is None and kept == self.settings.per_question:
                reason = "rationale_per_question"
            if reason:
                yield Dropped(STAGE, reason, best.task, name, best.question)
                continue
            kept += 1
            pair_id = f"r-{best.draft_id}-{worst.draft_id}"
            yield rationale_pair(pair_id, best, worst, scored[best.draft_id], scored[worst.draft_id])

    def _reason(self, best: Draft, worst: Draft, scored: Mapping[str, float], bounds: Bounds) -> str | None:
        high, low = scored[best.draft_id], scored[worst.draft_id]
        least = max(self.settings.gap, bounds.margin)
        if reason := no_preference("rationale", high, low, least):
            return reason
        # Rounding, as in `no_preference`.
        if self.settings.above is not None and high < self.settings.above - 1e-9:
            return "rationale_chosen_too_low"
        if self.settings.below is not None and low > self.settings.below + 1e-9:
            return "rationale_rejected_too_high"
        if best.rationale == worst.rationale:
            return "rationale_same_text"
        if not all(bounds.fits(one.solve_prompt, one.rationale) for one in (best, worst)):
            return "rationale_too_long"
        return None
