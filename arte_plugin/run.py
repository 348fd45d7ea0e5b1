"""One run of the loop: the stages in order, what each of them depends on, and what it makes."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arte_plugin import answers, prompts, question_tags, ranks
from arte_plugin.args import SENTINEL, Arm, ArteArgs, RespondentArgs
from arte_plugin.errors import StageError
from arte_plugin.manifest import Count, count_rows, hash_file, hash_of
from arte_plugin.models import Model, fingerprint_model, stay_on_cpu, student_dtype, student_model, teacher_model
from arte_plugin.request_cache import RequestCache
from arte_plugin.rows import (
    Draft,
    Dropped,
    PreferencePair,
    PreferenceQuestion,
    Probe,
    Response,
    Score,
    TailoredExample,
    read_rows,
)
from arte_plugin.run_folder import Files, Made, RunFolder
from arte_plugin.summary import summary
from arte_plugin.tables import markdown_table
from arte_plugin.tasks import Task, load_task

#: Top-level keys that do not decide what the teacher's training comes to.
_NOT_TRAINING = (
    "arte", "axolotl_config_path", "capabilities", "env_capabilities", "dataset_prepared_path", "debug", "device",
    "device_map", "ddp", "local_rank", "output_dir", "strict", "world_size", "resume_from_checkpoint",
    "auto_resume_from_checkpoints", "plugins", "excess_length_strategy", "dataset_num_proc", "dataset_processes",
)  # fmt: skip

#: The modules that ask and read.
_WORDING = (prompts, answers, question_tags)


class Run:
    """The run folder `OUTPUT_DIR/arte` of one YAML.

    Raises, when it is made, `ConfigError` and `DataError` for whatever is wrong with the tasks and the models' paths:
    before any model is loaded.
    """

    def __init__(self, cfg: Any):
        # A copy: Axolotl and the stages change theirs as they go.
        self.cfg = type(cfg)(cfg.to_dict()) if hasattr(cfg, "to_dict") else dict(cfg)
        stay_on_cpu(self.cfg)
        block = cfg["arte"]
        self.args = ArteArgs.model_validate(block.to_dict() if hasattr(block, "to_dict") else block)
        if self.cfg.get("seed") is None:
            # Axolotl's default is no seed for the order of the rows and the adapter's initial weights.
            self.cfg["seed"] = self.args.seed
        self.output_dir = Path(cfg["output_dir"])
        self.out = RunFolder(self.output_dir / "arte", self.args.engine.rank_timeout)
        self.tasks: list[Task] = [load_task(task, self.args.seed) for task in self.args.tasks]
        for path in {cfg["base_model"], self.args.student.base_model, *(r.base_model for r in self.respondents)}:
            fingerprint_model(path)
        self.cache = RequestCache(
            Path(self.args.cache).expanduser() if self.args.cache else self.out.path / "requests.sqlite"
        )
        # What is asked and how the replies are read: a newer version's stages are not done by an older one's.
        self._wording = hash_of({module.__name__: inspect.getsource(module) for module in _WORDING})

    @property
    def respondents(self) -> list[RespondentArgs]:
        """Who answers the validation questions: as configured, or the student at 0 to 3 shots."""
        student = self.args.student
        default = RespondentArgs(base_model=student.base_model, prompt_style=student.prompt_style)
        return self.args.preference_set.respondents or [default]

    @property
    def pairs_file(self) -> Path:
        """The preference pairs: what the sentinel data set stands for."""
        return self.out.file("pair", "pairs.jsonl")

    # --- The stages before the teacher's training ------------------------------------------------------------------

    def until(self, last: str) -> None:
        """Run the stages before the teacher's training, up to and with `last`; skip what is done."""
        steps = {"elicit": self.elicit, "preference-set": self.preference_set, "probe": self.probe, "pair": self.pair}
        if self.args.pair.drafts:
            steps = {"pair": self.pair}
        for name, step in steps.items():
            step()
            if name == last:
                break

    def elicit(self) -> None:
        """Stage 1."""
        from arte_plugin.stages.elicit import elicit

        teacher = teacher_model(self.cfg, self.args, self.cache, aligned=False)
        inputs = {**self._asking(teacher), "elicit": self.args.elicit.model_dump(exclude={"batch_size"})}

        def work() -> Made:
            drafts: list[Draft] = []
            dropped: list[Dropped] = []
            for task in self.tasks:
                made, lost = elicit(task, teacher, self.args.elicit, self.args.seed)
                drafts += made
                dropped += lost
            wanted = self.args.elicit.questions * len(self.tasks)
            lost = [row for row in dropped if row.reason.startswith("rationale")]
            with_draft = {(draft.task, draft.question_id) for draft in drafts}
            # A rationale's id begins with its question's.
            questions = with_draft | {(row.task, row.id.partition("-")[0]) for row in lost}
            without = len(questions) - len(with_draft)
            counts = [
                _question_count(len(questions), wanted, [row for row in dropped if row not in lost]),
                count_rows("drafts", len(drafts), lost, f"{without} questions without any" if without else ""),
            ]
            kinds = {task.name: task.args.answer for task in self.tasks}
            wrong = sum(not answers.same(draft.answer, draft.target, kinds[draft.task]) for draft in drafts)
            if wrong:
                counts[1].note += f"{', ' if without else ''}{wrong} answer other than the claimed target"
            files: Files = {
                self.out.file("elicit", "drafts.jsonl"): drafts,
                self.out.file("elicit", "dropped.jsonl"): dropped,
            }
            return files, counts, {}

        self.out.stage("elicit", inputs, work, [teacher])

    def preference_set(self) -> None:
        """Stage 2."""
        from arte_plugin.stages.preference_set import choose
        from arte_plugin.stages.respond import respond

        settings = self.args.preference_set
        asked = self.respondents if settings.method == "irt" else []
        models = [student_model(r.base_model, r.prompt_style, self.args, self.cfg, self.cache) for r in asked]
        inputs = {
            "respondents": [
                (model.identity, r.shots, model.renderer.style) for model, r in zip(models, asked, strict=True)
            ],
            "tasks": self._task_inputs(),
            "preference_set": settings.model_dump(),
            "max_new_tokens": self.args.probe.max_new_tokens,
            "wording": self._wording,
            "seed": self.args.seed,
        }

        def work() -> Made:
            responses: list[Response] = []
            for model, respondent in zip(models, asked, strict=True):
                for shots in respondent.shots:
                    for task in self.tasks:
                        responses += respond(task, model, shots, self.args.probe, self.args.seed)
                model.close()
            chosen: list[PreferenceQuestion] = []
            fits: dict[str, Any] = {}
            for task in self.tasks:
                of_task = [row for row in responses if row.task == task.name]
                some, fits[task.name] = choose(task.validation, of_task, settings, self.args.seed)
                chosen += some
            validation = sum(len(task.validation) for task in self.tasks)
            counts = [Count("questions", validation, len(chosen), {"less_discriminating": validation - len(chosen)})]
            if responses:
                counts.append(Count("responses", len(responses), len(responses), note=_shares(responses)))
            files: Files = {
                self.out.file("preference-set", "responses.jsonl"): responses,
                self.out.file("preference-set", "preference_set.jsonl"): chosen,
                self.out.file("preference-set", "irt.json"): json.dumps(fits, indent=2) + "\n",
            }
            return files, counts, {}

        self.out.stage("preference-set", inputs, work, models)

    def probe(self) -> None:
        """Stage 3."""
        from arte_plugin.stages.probe import probe, score

        settings = self.args.student
        student = student_model(settings.base_model, settings.prompt_style, self.args, self.cfg, self.cache)
        drafts_file, set_file = (
            self.out.file("elicit", "drafts.jsonl"),
            self.out.file("preference-set", "preference_set.jsonl"),
        )
        inputs = {
            **self._asking(student),
            "drafts": hash_file(drafts_file),
            "preference_set": hash_file(set_file),
            "max_new_tokens": self.args.probe.max_new_tokens,
        }

        def work() -> Made:
            drafts, chosen = read_rows(drafts_file, Draft), read_rows(set_file, PreferenceQuestion)
            probes: list[Probe] = []
            for task in self.tasks:
                of_task = [draft for draft in drafts if draft.task == task.name]
                questions = [question for question in chosen if question.task == task.name]
                probes += probe(task, of_task, questions, student, self.args.probe)
            scores = score(drafts, probes)
            counts = [
                Count("probes", len(probes), len(probes), note=_shares(probes)),
                Count("scores", len(scores), len(scores)),
            ]
            return (
                {self.out.file("probe", "probes.jsonl"): probes, self.out.file("probe", "scores.jsonl"): scores},
                counts,
                {},
            )

        self.out.stage("probe", inputs, work, [student])

    def pair(self) -> None:
        """Stage 4."""
        from axolotl.loaders import load_tokenizer

        from arte_plugin.rendering import Renderer
        from arte_plugin.stages.pair import pair

        settings = self.args.pair
        drafts_file, scores_file = self._scored_drafts()
        drafts, scores = read_rows(drafts_file, Draft), read_rows(scores_file, Score)
        sequence_len = self.cfg["sequence_len"]
        inputs = {
            "drafts": hash_file(drafts_file),
            "scores": hash_file(scores_file),
            "pair": settings.model_dump(exclude={"drafts", "scores"}),
            "teacher": fingerprint_model(self.cfg["base_model"]),
            "prompt_style": self.args.teacher.prompt_style,
            "sequence_len": sequence_len,
            "seed": self.args.seed,
        }

        def work() -> Made:
            renderer = Renderer(load_tokenizer(self.cfg), self.args.teacher.prompt_style)

            def fits(prompt: str, completion: str) -> bool:
                text = renderer.prompt(prompt) + renderer.completion(completion)
                return len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"]) <= sequence_len

            pairs, dropped = pair(drafts, scores, settings, self.args.seed, fits)
            counts = []
            for level in ("question", "rationale"):
                kept = [one for one in pairs if one.level == level]
                lost = [
                    row
                    for row in dropped
                    if row.reason.startswith(level) or (row.reason == "no_score" and level == "rationale")
                ]
                gap = sum(one.chosen_score - one.rejected_score for one in kept) / len(kept) if kept else 0.0
                counts.append(
                    count_rows(f"{level} pairs", len(kept), lost, f"mean gap {100 * gap:.1f} points" if kept else "")
                )
            return {self.pairs_file: pairs, self.out.file("pair", "dropped.jsonl"): dropped}, counts, {}

        self.out.stage("pair", inputs, work)

    # --- Stage 5 is Axolotl's: what this run has to know of it -------------------------------------------------------

    def align_inputs(self) -> dict[str, Any]:
        """What the teacher's training depends on: the pairs, the base model and the training keys of the YAML."""
        training = {
            key: value for key, value in dict(self.cfg).items() if key not in _NOT_TRAINING and value is not None
        }
        training["datasets"] = [
            entry for entry in map(dict, training.get("datasets") or []) if entry.get("path") != SENTINEL
        ]
        return {
            "pairs": hash_file(self.pairs_file),
            "teacher": fingerprint_model(self.cfg["base_model"]),
            "prompt_style": self.args.teacher.prompt_style,
            "training": hash_of(training),
        }

    def aligned(self) -> bool:
        """Whether the teacher in `output_dir` is the one that these pairs and this YAML make."""
        weights = "adapter_config.json" if self.cfg.get("adapter") else "config.json"
        return (self.output_dir / weights).is_file() and self.out.manifest.finished(
            "align", hash_of(self.align_inputs())
        )

    def record_aligned(self, inputs: Mapping[str, Any], seconds: float, note: str) -> None:
        """Enter the teacher's finished training; ranks other than the first wait until it is entered."""
        if ranks.is_first():
            pairs = len(read_rows(self.pairs_file, PreferencePair))
            self.out.manifest.record("align", inputs, [Count("pairs", pairs, pairs, note=note)], {}, seconds)
        self.out.wait_for("align", hash_of(inputs))

    # --- The stages after it -----------------------------------------------------------------------------------------

    def after_align(self, last: str = "evaluate") -> None:
        """Run the stages after the teacher's training, up to and with `last`; the student is rank 0's business."""
        self.regenerate()
        if ranks.is_first() and last != "regenerate":
            self.sft()
            if last != "sft":
                self.evaluate()

    def regenerate(self) -> None:
        """Stage 6."""
        from arte_plugin.stages import arms
        from arte_plugin.stages.regenerate import Teachers, regenerate

        if not self.aligned():
            raise StageError(
                f"The teacher in {self.output_dir} is not aligned yet: run `axolotl train` on this YAML first."
            )
        wanted = self.args.arms
        aligned = teacher_model(self.cfg, self.args, self.cache, aligned=True)
        teachers = Teachers(aligned)
        asking = self.args.elicit.model_dump(
            include={"seeds_per_prompt", "questions_per_prompt", "prefill", "max_calls"}
        )
        inputs = {**self._asking(aligned), "regenerate": self.args.regenerate.model_dump(), "asking": asking}
        if wanted != ["arte"]:
            inputs["arms"] = wanted
        if arms.uses_unaligned_teacher(wanted):
            unaligned = teacher_model(self.cfg, self.args, self.cache, aligned=False)
            teachers = Teachers(aligned, unaligned)
            inputs["unaligned"] = dict(unaligned.identity)
        drafts: list[Draft] = []
        scores: list[Score] = []
        if arms.uses_drafts(wanted):
            drafts_file, scores_file = self._scored_drafts()
            drafts, scores = read_rows(drafts_file, Draft), read_rows(scores_file, Score)
            inputs |= {"drafts": hash_file(drafts_file), "scores": hash_file(scores_file)}

        def work() -> Made:
            made = [
                regenerate(
                    task,
                    teachers,
                    wanted,
                    [draft for draft in drafts if draft.task == task.name],
                    [score for score in scores if score.task == task.name],
                    self.args.regenerate,
                    self.args.elicit,
                    self.args.seed,
                )
                for task in self.tasks
            ]
            files: Files = {}
            counts: list[Count] = []
            dropped = [row for of_task in made for row in of_task.dropped_questions]
            if any(arms.ARMS[arm].questions == "aligned" for arm in wanted):
                questions, asked_for = sum(m.questions for m in made), self.args.regenerate.questions * len(self.tasks)
                counts.append(_question_count(questions, asked_for, dropped))
            for arm in wanted:
                examples = [row for of_task in made for row in of_task.examples[arm]]
                lost = [row for of_task in made for row in of_task.dropped[arm]]
                counts.append(count_rows("examples" if wanted == ["arte"] else arm, len(examples), lost))
                files[self._examples_file(arm)] = examples
                dropped += lost
            # Arms that share their rows have lost the same ones.
            files[self.out.file("regenerate", "dropped.jsonl")] = list(dict.fromkeys(dropped))
            return files, counts, {}

        self.out.stage("regenerate", inputs, work, [one for one in (aligned, teachers.unaligned) if one])

    def sft(self) -> None:
        """Stage 7, for every arm; arms with the same examples have one student."""
        trained: dict[str, Arm] = {}
        for arm in self.args.arms:
            examples = hash_file(self._examples_file(arm))
            self._sft(arm, like=trained.setdefault(examples, arm))

    def _sft(self, arm: Arm, like: Arm) -> None:
        from arte_plugin.stages import sft

        tailored = self._examples_file(like)
        folder = self.out.file("sft", "" if like == "arte" else like)
        config = sft.student_config(self.cfg, self.args.student, tailored, folder, self.args.seed)
        inputs = {
            "student": fingerprint_model(self.args.student.base_model),
            "tailored": hash_file(tailored),
            "config": hash_of(config),
        }

        def work() -> Made:
            examples = read_rows(tailored, TailoredExample)
            dropped = sft.too_long(examples, config)
            if like == arm:
                trained, note = asdict(sft.train(config, folder)), ""
            else:
                trained, note = self.out.manifest.stages()[_sft_stage(like)].result, f"the same examples as {like}"
            counts = [count_rows("examples", len(examples) - len(dropped), dropped, note)]
            return {folder / "dropped.jsonl": dropped}, counts, trained

        self.out.stage(_sft_stage(arm), inputs, work)

    def evaluate(self) -> None:
        """Stage 8."""
        from arte_plugin.stages.compare import compare, comparison_lines
        from arte_plugin.stages.evaluate import evaluate, result_lines
        from arte_plugin.stages.sft import TrainedStudent

        base = self.args.student.base_model
        finished = self.out.manifest.stages()
        students = {"base": TrainedStudent(base)}
        students |= {arm: TrainedStudent(**finished[_sft_stage(arm)].result) for arm in self.args.arms}
        inputs = {
            "students": {
                arm: [fingerprint_model(path) for path in (student.model, student.adapter) if path]
                for arm, student in students.items()
            },
            "prompt_style": self.args.student.prompt_style,
            "dtype": student_dtype(self.args),
            "tasks": self._task_inputs(),
            "evaluate": self.args.evaluate.model_dump(exclude={"batch_size"}),
            "wording": self._wording,
        }

        def work() -> Made:
            folder = self.out.file("evaluate", "")
            evaluated = evaluate(self.tasks, students, self.args, self.cfg, folder)
            results, comparisons = [one.result for one in evaluated], compare(evaluated)
            unparsed = sum(row.unparsed for row in results) / sum(row.n for row in results)
            answered = sum(row.n for row in results)
            counts = [Count("answers", answered, answered, note=f"{100 * unparsed:.1f} % unparsed")]
            tables = [markdown_table(lines) for lines in (result_lines(results), comparison_lines(comparisons))]
            files: Files = {
                folder / "results.json": json.dumps([asdict(row) for row in results], indent=2) + "\n",
                folder / "comparisons.json": json.dumps([asdict(row) for row in comparisons], indent=2) + "\n",
                folder / "results.md": "\n\n".join(tables) + "\n",
            }
            return files, counts, {}

        self.out.stage("evaluate", inputs, work)

    def summary(self) -> str:
        """The stage table and, once it is there, the accuracy table."""
        return summary(self.out.path)

    # --- What stages depend on ------------------------------------------------------------------------------

    def _scored_drafts(self) -> tuple[Path, Path]:
        """The drafts and their scores: this run's, or published ones."""
        settings = self.args.pair
        return (
            Path(settings.drafts or self.out.file("elicit", "drafts.jsonl")),
            Path(settings.scores or self.out.file("probe", "scores.jsonl")),
        )

    def _examples_file(self, arm: Arm) -> Path:
        return self.out.file("regenerate", "tailored.jsonl" if arm == "arte" else f"{arm}.jsonl")

    def _asking(self, model: Model) -> dict[str, Any]:
        return {
            "model": dict(model.identity),
            "prompt_style": model.renderer.style,
            "tasks": self._task_inputs(),
            "wording": self._wording,
            "seed": self.args.seed,
        }

    def _task_inputs(self) -> list[dict[str, Any]]:
        return [
            {
                "name": task.name,
                "description": task.args.description,
                "answer": task.args.answer,
                "techniques": task.args.techniques,
                **{split: hash_of({"rows": [asdict(q) for q in rows]}) for split, rows in task.splits().items()},
            }
            for task in self.tasks
        ]


def _sft_stage(arm: Arm) -> str:
    return "sft" if arm == "arte" else f"sft/{arm}"


def _question_count(kept: int, wanted: int, dropped: Sequence[Dropped]) -> Count:
    return count_rows("questions", kept, dropped, f"{wanted - kept} fewer than asked for" if kept < wanted else "")


def _shares(rows: Sequence[Probe] | Sequence[Response]) -> str:
    outcomes = [row.outcome for row in rows]
    correct, unparsed = outcomes.count("correct") / len(outcomes), outcomes.count("unparsed") / len(outcomes)
    return f"{100 * correct:.1f} % correct, {100 * unparsed:.1f} % unparsed"
