"""The `arte:` block of the YAML, and what it needs around it. `docs/configuration.md` is made from it."""

import hashlib
from datetime import date as Date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from arte_plugin.config.align import AlignArgs
from arte_plugin.config.arms import Arm, ArmArgs, arm_of, each_named_once
from arte_plugin.config.block import Block, each_once
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.engines import (
    Engine,
    ServerEngineArgs,
    TransformersEngineArgs,
    check_aligned_teacher_can_be_served,
    check_revision_is_served,
)
from arte_plugin.config.entries import check_pairs_entry, check_plugin_is_named
from arte_plugin.config.evaluate import EvaluateArgs
from arte_plugin.config.losses import check_rl
from arte_plugin.config.pair import PairArgs
from arte_plugin.config.plugs import Chosen, chosen_all
from arte_plugin.config.preference_set import PreferenceSetArgs
from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.config.signals import misfits, read_signals, settled
from arte_plugin.config.student import StudentArgs, Students
from arte_plugin.config.task_entries import Tasks
from arte_plugin.config.teacher import TeacherArgs, check_own_adapter


class ArteArgs(Block):
    """ARTE: align a teacher with a student's preferences, then train the student on what the teacher writes."""

    student: Students = Field(
        description="The student, or a list of them: each is probed, the teacher is aligned with the mean of their "
        "scores, and each is fine-tuned on what it writes."
    )
    teacher: TeacherArgs = Field(default_factory=TeacherArgs, description="How the teacher is asked.")
    tasks: Tasks = Field(description="The target tasks.")
    elicit: ElicitArgs = Field(default_factory=ElicitArgs, description="Stage 1, knowledge elicitation.")
    preference_set: PreferenceSetArgs = Field(default_factory=PreferenceSetArgs, description="Stage 2, preference set.")
    probe: ProbeArgs = Field(default_factory=ProbeArgs, description="Stage 3, probes.")
    signals: list[Any] = Field(
        ["answers"],
        min_length=1,
        description="What a draft's score, s_r, is made of: the mean of these signals by their `weight` "
        "(docs/strategies.md). Each is a name, `{name: {its settings}}`, or one of your own by its import path, "
        "`my_package.my_signal:Surprise`. Signals of questions make s_q in the same way, which otherwise is the mean "
        "of the question's s_r. `[answers]` is the paper's.",
    )
    pair: PairArgs = Field(default_factory=PairArgs, description="Stage 4, preference pairs.")
    align: AlignArgs = Field(
        default_factory=AlignArgs, description="Behind stage 5: whether the alignment did anything."
    )
    regenerate: RegenerateArgs = Field(default_factory=RegenerateArgs, description="Stage 6, tailored examples.")
    from_run: str | None = Field(
        None,
        min_length=1,
        description="The output folder of a finished run, or a repository on the Hub that holds one: its aligned "
        "teacher writes the data, in place of stages 1 to 5. The tasks may be others than there (the paper's Table 4), "
        "and so may the student (Table 5). What was asked in that run is not asked again.",
    )
    overlap: Literal["stop", "drop"] = Field(
        "stop",
        description="With `from_run` or `pair.drafts`: what becomes of test questions that are seed or preference "
        "questions of that run, on which its teacher was aligned. `stop` and show one, or `drop` them from the test "
        "and say how many.",
    )
    from_run_revision: str | None = Field(
        None, min_length=1, description="Branch, tag or commit of a `from_run` on the Hub; default: the newest."
    )
    arms: list[Arm] = Field(
        ["arte", "unaligned"],
        min_length=1,
        description="Data sets to train a student on, all of the same size and with the same recipe: `arte`; its "
        "control `unaligned`, the same pipeline with the teacher as it was; and from the paper's Table 2 "
        "`original_teacher`, `rationale_only`, `question_only`, from Table 6 `random_technique`, `most_preferred`, "
        "`task_consistent`; or one of your own, a block with a `name`. The untouched student is always evaluated "
        "beside them.",
    )
    evaluate: EvaluateArgs = Field(default_factory=EvaluateArgs, description="Stage 8, evaluation.")
    diagnostics: list[str | dict[str, Any]] = Field(
        default_factory=list,
        description="Tables to know before believing a result, behind the evaluation, in `09-diagnose/diagnostics.md`: "
        "names, or `{name: {its settings}}` (docs/strategies.md). Default: none; those that ask no model are shown by "
        "`arte status CONFIG --diagnostics` in any case.",
    )
    engine: Engine = Field(
        default_factory=TransformersEngineArgs,
        description="Who runs the models: transformers in this process, servers (`kind: server`), or what suits the "
        "machine and the run (`kind: auto`).",
    )
    cache: str | None = Field(
        None, description="Request cache (SQLite), to share among runs; default: `OUTPUT_DIR/arte/requests.sqlite`."
    )
    date: str | None = Field(
        None,
        description="The date (YYYY-MM-DD) that chat templates which tell the date are rendered with, in all stages; "
        "default: the day of the run's first start, or that of `from_run`.",
    )
    seed: int = Field(42, ge=0, description="Decides splits, seed questions, sampling and pairs.")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=list,
        description="Seeds of the students' fine-tuning: each student of each arm is trained once with every one of "
        "them, and the tables show the mean and the spread. Default: once, with `seed`.",
    )

    rounds: int = Field(
        1,
        ge=1,
        le=20,
        description="Rounds of the whole loop. A later one starts from the aligned teacher and the tuned students of "
        "the one before (of the arm `arte`, or else of the first), in `OUTPUT_DIR/round-N`. Rounds end early when the "
        "tuned students are no better than before on the held-out validation questions, `patience` rounds in a row.",
    )
    held_out: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="Share of each task's validation questions that no preference set is chosen from, where there are "
        "`rounds`: the accuracy on them decides whether another round follows.",
    )
    patience: int = Field(
        1, ge=1, description="Rounds in a row that may leave the students no better before there is no further round."
    )
    student_from: Literal["tuned", "base"] = Field(
        "tuned",
        description="Whom a later round fine-tunes: `tuned`, the students of the round before; `base`, the students as "
        "they were before the first round. Those of the round before are probed and asked either way, and are what "
        "a round is compared with.",
    )
    keep_examples: bool = Field(
        False,
        description="Whether a later round trains on the examples of all rounds so far: each arm on its own, none of "
        "which a new question may repeat. Otherwise on its own examples only.",
    )
    kept_from: str | None = Field(
        None,
        min_length=1,
        description="The output folder of the round whose examples are kept. The plugin writes it into later rounds.",
    )
    round: int = Field(
        1, ge=1, description="Which of the `rounds` this YAML is; the plugin writes it into those of later rounds."
    )
    recipe: dict[str, Any] = Field(
        default_factory=dict,
        description="Top-level keys of the teacher's training that the YAML leaves out, as the plugin fills them in "
        "(docs/recipes.md). It writes this itself.",
    )
    command_line: dict[str, Any] = Field(
        default_factory=dict,
        description="Top-level keys that options of `axolotl train` have set, for later rounds. The plugin writes this "
        "itself.",
    )

    @property
    def chosen_diagnostics(self) -> list[Chosen]:
        """The diagnostics, with their settings read."""
        return chosen_all("diagnostics", self.diagnostics)

    @field_validator("diagnostics")
    @classmethod
    def _are_known(cls, entries: list[Any]) -> list[Any]:
        names = [one.name for one in chosen_all("diagnostics", entries)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"`{twice[0]}` stands there twice")
        return entries

    @property
    def combinations(self) -> dict[str, ArmArgs]:
        """The arms by name: what each combines."""
        return {one.name: one for one in map(arm_of, self.arms)}

    @property
    def students(self) -> list[StudentArgs]:
        """The students, of which there is at least one."""
        return self.student if isinstance(self.student, list) else [self.student]

    @field_validator("date", mode="before")
    @classmethod
    def _is_a_date(cls, value: Any) -> Any:
        # YAML makes a date of what looks like one.
        text = value.isoformat() if isinstance(value, Date) else value
        try:
            return text if text is None else Date.fromisoformat(text).isoformat()
        except (TypeError, ValueError):
            raise ValueError("a date is written YYYY-MM-DD") from None

    @property
    def leading_arm(self) -> str:
        """Whose students later rounds go on with: `arte`, or the first where that is left out."""
        return "arte" if "arte" in self.combinations else next(iter(self.combinations))

    @property
    def sampling_seed(self) -> int:
        """What the teacher is asked with: another in each round, where one that hardly moved would write the same."""
        if self.round == 1:
            return self.seed
        return int.from_bytes(hashlib.sha256(f"{self.seed}/round-{self.round}".encode()).digest()[:4])

    @model_validator(mode="after")
    def _running_servers_have_one_model(self) -> "ArteArgs":
        served = (self.engine.teacher, self.engine.student) if isinstance(self.engine, ServerEngineArgs) else ()
        if self.rounds > 1 and any(one and one.base_urls for one in served):
            raise ValueError("later `rounds` have other models than the servers in `base_urls`: use `command`")
        return self

    @model_validator(mode="after")
    def _revisions_are_served(self) -> "ArteArgs":
        if isinstance(self.engine, ServerEngineArgs) and self.engine.student:
            revisions = [one.revision for one in self.students]
            revisions += [one.revision for one in self.preference_set.respondents]
            for revision in revisions:
                check_revision_is_served(self.engine.student, revision, "student")
        return self

    @model_validator(mode="after")
    def _from_run_has_a_revision(self) -> "ArteArgs":
        if self.from_run_revision and not self.from_run:
            raise ValueError("`from_run_revision` goes with `from_run`, which is not there")
        return self

    @model_validator(mode="after")
    def _thoughts_come_first(self) -> "ArteArgs":
        if self.teacher.reasoning is True and self.elicit.prefill:
            raise ValueError(
                "`elicit.prefill` begins the teacher's reply, and `teacher.reasoning` its thought: one of them"
            )
        return self

    @field_validator("signals")
    @classmethod
    def _signals_are_known(cls, signals: list[Any]) -> list[Any]:
        read_signals(signals)
        return signals

    @model_validator(mode="after")
    def _signals_and_score_say_the_same(self) -> "ArteArgs":
        self.signals, self.probe.score = settled(self.signals, self.probe.score, "signals" in self.model_fields_set)
        misfit = misfits(
            self.chosen_signals,
            served=isinstance(self.engine, ServerEngineArgs) and self.engine.student is not None,
            racing=self.probe.budget == "racing",
            consistency=bool(self.preference_set.consistency_questions),
            shrunken=bool(self.pair.min_probability),
            size=None if self.preference_set.method == "all" else self.preference_set.size,
        )
        if misfit:
            raise ValueError(misfit)
        return self

    @property
    def chosen_signals(self) -> list[Chosen]:
        """`signals`, read."""
        return read_signals(self.signals)

    @model_validator(mode="after")
    def _arms_have_likelihoods(self) -> "ArteArgs":
        served = isinstance(self.engine, ServerEngineArgs) and self.engine.student is not None
        for arm in self.combinations.values() if served else ():
            if names := arm.reads_likelihoods:
                raise ValueError(
                    f"the arm {arm.name} needs the student in this process for `{names[0]}`: a server doesn't tell how "
                    "likely a reply is. Leave out `engine.student`, or the arm"
                )
        return self

    @field_validator("arms")
    @classmethod
    def _arms_differ(cls, arms: list[str | ArmArgs]) -> list[str | ArmArgs]:
        return each_named_once(arms)

    @model_validator(mode="after")
    def _rounds_have_what_they_need(self) -> "ArteArgs":
        if self.round > self.rounds:
            raise ValueError(f"`round: {self.round}` is more than `rounds: {self.rounds}`")
        for key, value in (("student_from", self.student_from != "tuned"), ("keep_examples", self.keep_examples)):
            if value and self.rounds == 1:
                raise ValueError(f"`{key}` is about later `rounds`, and there is one: set `rounds: 2`, say")
        if self.rounds > 1 and (self.from_run or self.pair.drafts):
            other = "from_run" if self.from_run else "pair.drafts"
            raise ValueError(f"`rounds` align a teacher in each round, and `{other}` takes the place of that")
        return self

    @model_validator(mode="after")
    def _one_source_of_pairs(self) -> "ArteArgs":
        if self.from_run and self.pair.drafts:
            raise ValueError("`from_run` takes the place of `pair.drafts` and `pair.scores`: give one or the other")
        return self

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        return each_once(seeds)

    @model_validator(mode="after")
    def _seeds_decide(self) -> "ArteArgs":
        if self.seeds and any("seed" in student.sft for student in self.students):
            raise ValueError("`seeds` and `student.sft.seed` both seed the fine-tuning: take one of them out")
        return self

    @model_validator(mode="after")
    def _student_names_differ(self) -> "ArteArgs":
        names = [student.name.lower() for student in self.students]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two students are called {name!r}: give them a `name` each (case does not count)")
        return self

    @model_validator(mode="after")
    def _task_names_differ(self) -> "ArteArgs":
        names = [task.name.lower() for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"two tasks are called {name!r}; a name stands for one task only (case does not count)"
                )
        return self


class ArteConfig(BaseModel):
    """What the plugin adds to Axolotl's config: the `arte:` block, and checks on top-level keys that it relies on."""

    arte: ArteArgs = Field(description="ARTE.")

    @model_validator(mode="before")
    @classmethod
    def _teacher_dpo(cls, values: Any) -> Any:
        """Raises `ValueError` (shown by Axolotl with the key) where the teacher's DPO run can't come about."""
        if not isinstance(values, dict) or "arte" not in values:
            raise ValueError("`plugins` names arte_plugin.ArtePlugin, but there is no `arte:` block")
        check_plugin_is_named(values)
        check_rl(values)
        check_own_adapter(values)
        check_aligned_teacher_can_be_served(values)
        check_pairs_entry(values)
        return values
