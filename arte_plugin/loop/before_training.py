"""The stages before the teacher's training: what each asks for, depends on, writes and counts."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

from arte_plugin.data.aligned_on import without_repeats
from arte_plugin.models.model import Model
from arte_plugin.models.renderers import asking_renderer
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import (
    AnswerLikelihood,
    Draft,
    Dropped,
    PreferenceQuestion,
    Probe,
    Response,
    Score,
    iter_rows,
    read_rows,
)  # fmt: skip
from arte_plugin.run.folder import Files, Made, question_count
from arte_plugin.run.manifest import Count, count_rows, hash_file
from arte_plugin.run.run import Run
from arte_plugin.show.tables import markdown_table
from arte_plugin.stages import near_duplicates
from arte_plugin.stages.agreement import disagreement_note
from arte_plugin.stages.near_duplicates import near_generated, near_splits
from arte_plugin.stages.question_pairs import prompts_note
from arte_plugin.versions import READING

LOG = logging.getLogger(LOGGER)


def elicit(run: Run) -> None:
    """Stage 1."""
    from arte_plugin.stages.elicit import elicit
    from arte_plugin.stages.worked_examples import solve_seeds

    teacher = teacher_model(run.cfg, run.args, run.cache)
    inputs = {**run.asking(teacher), "elicit": run.args.elicit.decisive("batch_size", "worked_examples")}

    def work() -> Made:
        drafts: list[Draft] = []
        dropped: list[Dropped] = []
        held: list[int] = []
        for task in run.tasks:
            made, lost, in_replies = elicit(task, teacher, run.args.elicit, run.args.sampling_seed)
            if run.args.elicit.worked_examples:
                # Into the cache, while the teacher is here.
                solve_seeds(task, teacher, run.args.elicit, run.args.sampling_seed)
            drafts += made
            held += in_replies
            dropped += lost
        wanted = run.args.elicit.questions * len(run.tasks)
        lost = [row for row in dropped if row.reason.startswith("rationale")]
        with_draft = {(draft.task, draft.question_id) for draft in drafts}
        # A rationale's id begins with its question's.
        questions = with_draft | {(row.task, row.id.partition("-")[0]) for row in lost}
        without = len(questions) - len(with_draft)
        counts = [
            question_count(
                len(questions),
                wanted,
                [row for row in dropped if row not in lost],
                held,
                run.args.elicit.questions_per_prompt,
            ),
            count_rows("drafts", len(drafts), lost, f"{without} questions without any" if without else ""),
        ]
        kinds = [run.kinds[draft.task] for draft in drafts]
        if wrong := disagreement_note([(draft.answer, draft.target) for draft in drafts], kinds):
            counts[1].note += f"{', ' if without else ''}{wrong}"
        near = [row for task in run.tasks for row in near_splits(task)]
        for task in run.tasks:
            written = {draft.question_id: draft.question for draft in drafts if draft.task == task.name}
            near += near_generated(task, "drafts", list(written.values()))
        files: Files = {
            run.out.file("elicit", near_duplicates.FILE): near_duplicates.as_json(near),
            run.out.file("elicit", "drafts.jsonl"): drafts,
            run.out.file("elicit", "dropped.jsonl"): dropped,
        }
        return files, counts, {}

    run.out.stage("elicit", inputs, work, [teacher])


def worked_seeds(run: Run) -> None:
    """Beside stage 1, if asked for: the teacher as it was solves the seed questions, for few-shot prompts."""
    from arte_plugin.stages.worked_examples import FILE, STAGE, solve_seeds

    file = run.out.file("elicit", FILE)
    if run.worked_seeds != file:
        return
    teacher = teacher_model(run.cfg, run.args, run.cache)
    settings = run.args.elicit
    inputs = {**run.asking(teacher), "max_new_tokens": settings.max_new_tokens, "prefill": settings.prefill}

    def work() -> Made:
        made = [solve_seeds(task, teacher, settings, run.args.sampling_seed) for task in run.tasks]
        solved, dropped = [row for rows, _ in made for row in rows], [row for _, lost in made for row in lost]
        given = sum(bool(one.rationale) for task in run.tasks for one in task.seeds)
        note = f"{given} more come with one" if given else ""
        files: Files = {file: solved, run.out.file("elicit", "worked_dropped.jsonl"): dropped}
        return files, [count_rows("worked examples", len(solved), dropped, note)], {}

    run.out.stage(STAGE, inputs, work, [teacher])


def preference_set(run: Run) -> None:
    """Stage 2."""
    from arte_plugin.stages.choosing import choose
    from arte_plugin.stages.pilot import drawn, pilot
    from arte_plugin.stages.readable import Readings
    from arte_plugin.stages.respond import respond

    settings = run.args.preference_set
    asked = run.respondents if settings.method == "irt" else []
    models = [student_model(one.like, run.args, run.cfg, run.cache, one.settings) for one in asked]
    inputs = {
        "respondents": [
            (model.identity, one.settings.shots, model.renderer.identity)
            for model, one in zip(models, asked, strict=True)
        ],
        "tasks": run.task_inputs(),
        **run.shot_inputs(),
        # The check comes later and has no say in the set.
        "preference_set": settings.decisive("consistency_questions"),
        "max_new_tokens": run.args.probe.max_new_tokens,
        **_asks_again(run),
        "seed": run.args.seed,
    }
    students: list[Model] = []
    drafts_file = run.out.file("elicit", "drafts.jsonl")
    if settings.pilot_drafts and settings.method == "irt":
        students = [student_model(one, run.args, run.cfg, run.cache) for one in run.args.students]
        inputs["pilot"] = {
            "students": [{"name": student.name, **run.asking(student)} for student in students],
            "drafts": hash_file(drafts_file),
        }

    def work() -> Made:
        responses: list[Response] = []
        drafts = read_rows(drafts_file, Draft) if students else []
        for student in students:
            for task in run.tasks:
                of_task = [draft for draft in drafts if draft.task == task.name]
                some = drawn(of_task, settings.pilot_drafts, run.args.seed)
                responses += pilot(task, some, student, run.args.probe)
            student.close()
        for model, respondent in zip(models, asked, strict=True):
            for shots in respondent.settings.shots:
                for task in run.shown_tasks:
                    responses += respond(task, model, respondent.name, shots, run.args.probe, run.args.seed)
            model.close()
        chosen: list[PreferenceQuestion] = []
        fits: dict[str, Any] = {}
        for task in run.tasks:
            answered = [row for row in responses if row.task == task.name]
            questions, fits[task.name] = choose(task.validation, answered, settings, run.args.seed)
            chosen += questions
        validation = sum(len(task.validation) for task in run.tasks)
        counts = [Count("questions", validation, len(chosen), {"less_discriminating": validation - len(chosen)})]
        if responses:
            counts.append(Count("responses", len(responses), len(responses), note=Readings.of(responses).note()))
        files: Files = {
            run.out.file("preference-set", "responses.jsonl"): responses,
            run.out.file("preference-set", "preference_set.jsonl"): chosen,
            run.out.file("preference-set", "irt.json"): json.dumps(fits, indent=2) + "\n",
        }
        return files, counts, {}

    run.out.stage("preference-set", inputs, work, [*models, *students])


def probe(run: Run) -> None:
    """Stage 3."""
    from arte_plugin.stages.likelihood import likelihood_scores, weigh
    from arte_plugin.stages.probing import Tally, probe, probe_racing
    from arte_plugin.stages.readable import readable_lines

    settings = run.args.probe
    scores_file = run.out.file("probe", "scores.jsonl")
    students = [student_model(settings, run.args, run.cfg, run.cache) for settings in run.args.students]
    drafts_file, set_file = (
        run.out.file("elicit", "drafts.jsonl"),
        run.out.file("preference-set", "preference_set.jsonl"),
    )
    inputs = {
        "students": [{"name": student.name, **run.asking(student)} for student in students],
        "drafts": hash_file(drafts_file),
        "preference_set": hash_file(set_file),
        "max_new_tokens": settings.max_new_tokens,
        **_asks_again(run),
        **_not_as_in_the_paper(run),
    }

    def work() -> Made:
        drafts, chosen = read_rows(drafts_file, Draft), read_rows(set_file, PreferenceQuestion)
        cells = 0

        def of_all(ask: Callable[..., Iterable[Any]]) -> Iterator[Any]:
            nonlocal cells
            for student in students:
                for task in run.tasks:
                    of_task = [draft for draft in drafts if draft.task == task.name]
                    questions = [question for question in chosen if question.task == task.name]
                    cells += len(of_task) * len(questions)
                    yield from ask(task, of_task, questions, student, settings)
                student.close()

        if settings.score != "answers":
            likelihoods: list[AnswerLikelihood] = list(of_all(weigh))
            scores = likelihood_scores(drafts, likelihoods)
            files: Files = {run.out.file("probe", "likelihoods.jsonl"): likelihoods, scores_file: scores}
            return files, [Count("likelihoods", cells, cells), Count("scores", len(scores), len(scores))], {}
        racing = partial(probe_racing, quantile=run.args.pair.quantile, seed=run.args.seed)
        tally = Tally()
        asked = of_all(probe if settings.budget == "full" else racing)
        run.out.write_as_made("probe", run.out.file("probe", "probes.jsonl"), tally.counted(asked))
        scores, total = tally.scores(drafts), tally.readings.n
        # A call that racing saves is a probe that was not made.
        saved = {"saved": cells - total} if total < cells else {}
        counts = [
            Count("probes", cells, total, saved, tally.readings.note()),
            Count("scores", len(scores), len(scores)),
        ]
        table = markdown_table(readable_lines(tally.by_task, chosen)) + "\n"
        return {scores_file: scores, run.out.file("probe", "readable.md"): table}, counts, {}

    run.out.stage("probe", inputs, work, students)


def consistency(run: Run) -> None:
    """Behind stage 3, if asked for: how well the preference set stands for the whole validation set."""
    from arte_plugin.stages import set_consistency as consistency
    from arte_plugin.stages.choosing import preference_question
    from arte_plugin.stages.probing import Tally, probe

    count = run.args.preference_set.consistency_questions
    students = [student_model(settings, run.args, run.cfg, run.cache) for settings in run.args.students]
    drafts_file = run.out.file("elicit", "drafts.jsonl")
    set_file = run.out.file("preference-set", "preference_set.jsonl")
    probes_file = run.out.file("probe", "probes.jsonl")
    inputs = {
        "students": [{"name": student.name, **run.asking(student)} for student in students],
        "drafts": hash_file(drafts_file),
        "preference_set": hash_file(set_file),
        "probes": hash_file(probes_file),
        "max_new_tokens": run.args.probe.max_new_tokens,
        **_asks_again(run),
        "questions": count,
        "random_sets": consistency.RANDOM_SETS,
    }

    def work() -> Made:
        drafts, chosen = read_rows(drafts_file, Draft), read_rows(set_file, PreferenceQuestion)
        checked = {
            task.name: consistency.drawn([draft for draft in drafts if draft.task == task.name], count, run.args.seed)
            for task in run.tasks
        }
        wanted = {draft.draft_id for of_task in checked.values() for draft in of_task}
        known = [row for row in iter_rows(probes_file, Probe) if row.draft_id in wanted]
        found: dict[str, dict[str, Any]] = {}

        def probes() -> Iterator[Probe]:
            for task in run.tasks:
                in_set = {question.preference_id for question in chosen if question.task == task.name}
                # Racing has left some of the set's own probes out; those that were made are not asked again.
                left_out = in_set if run.args.probe.budget == "full" else set()
                rest = [preference_question(q) for q in task.validation if q.question_id not in left_out]
                of_task = checked[task.name]
                more = [row for student in students for row in probe(task, of_task, rest, student, run.args.probe)]
                validation = [question.question_id for question in task.validation]
                found[task.name] = consistency.check(of_task, [*known, *more], validation, in_set, run.args.seed)
                yield from more

        tally = Tally()
        run.out.write_as_made(
            consistency.STAGE, run.out.file("probe", "consistency_probes.jsonl"), tally.counted(probes())
        )
        total = tally.readings.n
        of_students = [one for by_student in found.values() for one in by_student.values()]
        compared = sum(one["preference_set"]["compared"] for one in of_students)
        tied = {
            "tied_on_preference_set": sum(one["preference_set"]["tied"] for one in of_students),
            "tied_on_validation_set": sum(one["tied_on_validation_set"] for one in of_students),
        }
        counts = [
            Count("probes", total, total, note=tally.readings.note() if total else ""),
            Count("questions", compared + sum(tied.values()), compared, {k: n for k, n in tied.items() if n}),
        ]
        return {run.out.file("probe", "consistency.json"): json.dumps(found, indent=2) + "\n"}, counts, {}

    run.out.stage(consistency.STAGE, inputs, work, students)


def pair(run: Run) -> None:
    """Stage 4."""
    from axolotl.loaders import load_tokenizer

    from arte_plugin.config.pair import DEFAULT
    from arte_plugin.stages.gaps import cell_files, gap_note, gap_report, like_chance, read_cells
    from arte_plugin.stages.hold_out import hold_out
    from arte_plugin.stages.pairing import pair, rationale_ranks
    from arte_plugin.stages.pilot import drafts_that_chose
    from arte_plugin.stages.probing import preference_scores
    from arte_plugin.stages.repeat import note, repeated
    from arte_plugin.stages.shrinkage import Shrunken, shrink

    settings = run.args.pair
    drafts_file, scores_file = run.scored_drafts()
    drafts, scores = read_rows(drafts_file, Draft), read_rows(scores_file, Score)
    repeats: list[Dropped] = []
    if settings.drafts:
        drafts, repeats = without_repeats(drafts, run.tasks, "pair")
    preferences = preference_scores(scores, run.weights)
    sequence_len = run.cfg["sequence_len"]
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
        "sequence_len": sequence_len,
        "seed": run.args.seed,
    }
    if repeats:
        inputs["repeats"] = sorted(row.id for row in repeats)
    pilots = drafts_that_chose(scores_file) & {draft.draft_id for draft in drafts}
    if pilots:
        inputs["pilots"] = sorted(pilots)

    def work() -> Made:
        renderer = asking_renderer(load_tokenizer(run.cfg), run.args.teacher, run.args)

        @cache
        def fits(prompt: str, completion: str) -> bool:
            text = renderer.prompt(prompt) + renderer.completion(completion)
            return len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"]) <= sequence_len

        cells = read_cells(scores_file, scores)
        usable = [one for one in drafts if one.draft_id in preferences]

        @cache
        def believed(task: str) -> Shrunken:
            return shrink([one for one in usable if one.task == task], scores, cells, run.weights)

        pairing = (drafts, preferences, settings, run.args.seed, fits, believed, run.kinds)
        pairs, dropped = pair(*pairing, settings.strategy.made())
        report = gap_report(
            drafts, preferences, cells, run.weights, pairs, settings.quantile, run.args.seed, pilots,
            rationale_ranks(*pairing) if settings.pairing == DEFAULT else None,
        )  # fmt: skip
        counts = [count_rows("draft questions", len({one.question_id for one in drafts}), repeats)] if repeats else []
        question_of = {draft.draft_id: draft.question_id for draft in drafts}
        trained, held_out, why = hold_out(pairs, question_of, run.args.align.held_out, run.args.seed)
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
            run.out.file("pair", "dropped.jsonl"): repeats + dropped,
            run.out.file("pair", "gaps.json"): json.dumps(report, indent=2) + "\n",
        }
        return files, counts, {}

    run.out.stage("pair", inputs, work)


def _not_as_in_the_paper(run: Run) -> dict[str, Any]:
    """What the scores depend on where they are not the paper's."""
    settings = run.args.probe
    if settings.score != "answers":
        return {"score": settings.score}
    if settings.budget == "racing":
        return {"budget": "racing", "racing": settings.racing.model_dump(), "quantile": run.args.pair.quantile}
    return {}


def _asks_again(run: Run) -> dict[str, Any]:
    """Where replies without an answer are asked for it, which is not in the paper."""
    return {"ask_again": True} if run.args.probe.ask_again else {}
