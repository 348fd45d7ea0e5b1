"""Stage 4: better and worse drafts become the preference pairs that the teacher is aligned with. Asks no model."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.pair import DEFAULT
from arte_plugin.data.aligned_on import without_repeats
from arte_plugin.models.model import Model
from arte_plugin.models.renderers import asking_renderer
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Draft, Dropped, Score, read_rows
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import Count, count_rows, hash_file
from arte_plugin.stages.question_pairs import prompts_note
from arte_plugin.stages.scoring import QUESTIONS, chance_not_known, question_preferences
from arte_plugin.stages.stage import Stage
from arte_plugin.versions import READING

if TYPE_CHECKING:
    from arte_plugin.run.run import Run
    from arte_plugin.stages.pairing import Fits

LOG = logging.getLogger(LOGGER)


class Pair(Stage):
    """Stage 4."""

    name: ClassVar[str] = "pair"
    what = "better and worse questions and rationales become preference pairs"
    reads: ClassVar = {"drafts": ("elicit", "drafts.jsonl"), "scores": ("probe", "scores.jsonl")}
    behind = ("probe",)
    writes = ("pairs.jsonl", "held_out.jsonl", "dropped.jsonl", "gaps.json")

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        """With `from_run`, there is nothing to align."""
        return args.from_run is None

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        from arte_plugin.stages.cells import cell_files

        settings = run.args.pair
        drafts_file, scores_file = run.scored_drafts()
        drafts, repeats = _drafts(run)
        inputs = {
            "drafts": hash_file(drafts_file),
            "scores": hash_file(scores_file),
            # What chance makes of the gaps.
            "cells": [hash_file(file) for file in cell_files(scores_file)],
            "weights": run.weights,
            "pair": settings.decisive("drafts", "scores"),
            **settings.identity,
            **({"held_out": run.args.align.held_out} if run.args.align.held_out else {}),
            # What makes two answers one.
            **({"answers": {"kinds": run.kinds, "reading": READING}} if settings.equal_answers else {}),
            "teacher": run.teacher_fingerprint(),
            **run.teacher_rendering(),
            "sequence_len": run.cfg["sequence_len"],
            "seed": run.args.seed,
        }
        if (s_q := scores_file.with_name(QUESTIONS)).is_file():
            inputs["questions"] = hash_file(s_q)
        if repeats:
            inputs["repeats"] = sorted(row.id for row in repeats)
        if pilots := _pilots(scores_file, drafts):
            inputs["pilots"] = sorted(pilots)
        return inputs

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        from arte_plugin.show.gap_lines import gap_note, like_chance
        from arte_plugin.stages.cells import read_cells
        from arte_plugin.stages.gaps import gap_report
        from arte_plugin.stages.hold_out import hold_out
        from arte_plugin.stages.pairing import pair, rationale_ranks
        from arte_plugin.stages.probing import preference_scores
        from arte_plugin.stages.repeat import note, repeated
        from arte_plugin.stages.shrinkage import Shrunken, shrink

        settings, seed = run.args.pair, run.args.seed
        _, scores_file = run.scored_drafts()
        scores = read_rows(scores_file, Score)
        drafts, repeats = _drafts(run)
        preferences = preference_scores(scores, run.weights)
        cells = read_cells(scores_file, scores)
        usable = [one for one in drafts if one.draft_id in preferences]

        @cache
        def believed(task: str) -> Shrunken:
            return shrink([one for one in usable if one.task == task], scores, cells, run.weights)

        pairing = (drafts, preferences, settings, seed, _fits(run), believed, run.kinds)
        s_q = question_preferences(scores_file, run.weights)
        pairs, dropped = pair(*pairing, settings.strategy.made(), s_q=s_q)
        report = gap_report(
            drafts, preferences, cells, run.weights, pairs, settings.quantile, seed, _pilots(scores_file, drafts),
            rationale_ranks(*pairing) if settings.pairing == DEFAULT else None, chance_not_known(scores, scores_file),
        )  # fmt: skip
        counts = [count_rows("draft questions", len({one.question_id for one in drafts}), repeats)] if repeats else []
        question_of = {draft.draft_id: draft.question_id for draft in drafts}
        trained, held_out, why = hold_out(pairs, question_of, run.args.align.held_out, seed)
        for level in ("question", "rationale"):
            kept = [one for one in pairs if one.level == level]
            lost = [
                row
                for row in dropped
                if row.reason.startswith(level) or (row.reason == "no_score" and level == "rationale")
            ]
            notes = [gap_note(report, level), prompts_note([one.prompt_of for one in kept])] if kept else []
            counts.append(count_rows(f"{level} pairs", len(kept), lost, "; ".join(filter(None, notes))))
        if warning := like_chance(report):
            LOG.warning("pair: %s", warning)
        if run.args.align.held_out:
            apart = {"held_out": len(held_out)} if held_out else {}
            counts.append(Count("pairs to train on", len(pairs), len(trained), apart, why))
        # What is held out is weighed, not trained on: there each counts once.
        rows = repeated(trained, settings.repeat)
        if settings.repeat:
            counts.append(Count("rows", len(rows), len(rows), note=note(trained, settings.repeat)))
        files: Files = {
            run.pairs_file: rows,
            run.held_out_file: held_out,
            self.file(run, "dropped.jsonl"): repeats + dropped,
            self.file(run, "gaps.json"): json.dumps(report, indent=2) + "\n",
        }
        return files, counts, {}

    @override
    def shown(self, folder: Path) -> str:
        from arte_plugin.show.gaps import gap_tables

        return gap_tables(folder)


def _drafts(run: "Run") -> tuple[list[Draft], list[Dropped]]:
    """The scored drafts, and what of published ones repeats a question of this run's own."""
    drafts = read_rows(run.scored_drafts()[0], Draft)
    return without_repeats(drafts, run.tasks, "pair") if run.args.pair.drafts else (drafts, [])


def _pilots(scores_file: Path, drafts: Sequence[Draft]) -> set[str]:
    from arte_plugin.stages.pilot import drafts_that_chose

    return drafts_that_chose(scores_file) & {draft.draft_id for draft in drafts}


def _fits(run: "Run") -> "Fits":
    from axolotl.loaders import load_tokenizer

    renderer = asking_renderer(load_tokenizer(run.cfg), run.args.teacher, run.args)

    @cache
    def fits(prompt: str, completion: str) -> bool:
        text = renderer.prompt(prompt) + renderer.completion(completion)
        return len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"]) <= run.cfg["sequence_len"]

    return fits
