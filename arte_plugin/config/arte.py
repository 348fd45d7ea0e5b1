"""The `arte:` block of the YAML: every key, its default and its bounds. `docs/configuration.md` is made from it."""

import hashlib
import re
from collections.abc import Sequence
from datetime import date as Date
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from arte_plugin.config.align import AlignArgs
from arte_plugin.config.block import Block
from arte_plugin.config.engines import (
    AutoEngineArgs,
    ServerEngineArgs,
    TransformersEngineArgs,
    check_aligned_teacher_can_be_served,
    check_revision_is_served,
)
from arte_plugin.config.sft import check_sft_keys
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.config.teacher import check_own_adapter
from arte_plugin.data import presets

SENTINEL = "arte://pairs"
PAIRS_STRATEGY = "arte_plugin.preference_pairs"


def is_arte(plugin: object) -> bool:
    """Whether an entry of `plugins` is the one that runs the loop."""
    return str(plugin).startswith("arte_plugin.") and str(plugin).endswith(".ArtePlugin")


PromptStyle = Literal["auto", "plain", "chat"]
Arm = Literal[
    "arte",
    "unaligned",
    "original_teacher",
    "rationale_only",
    "question_only",
    "random_technique",
    "most_preferred",
    "task_consistent",
]

Keep = Literal["all", "agrees_with_target", "majority"]

#: Members of unions: one student or a list of them; an engine in this process or servers. Pydantic names these in the
#: place of an error, where they say nothing to a reader.
TAGS = ONE, SEVERAL, HERE, SERVED, CHOSEN = "one", "several", "engine-here", "engine-served", "engine-chosen"


class StudentArgs(Block):
    """The student: the model that will be deployed."""

    name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=80,
        description="Name of the student in files and tables; default: the last part of `base_model`.",
    )
    base_model: str = Field(description="Path or Hub id of the student.")
    revision: str | None = Field(
        None,
        min_length=1,
        description="Branch, tag or commit on the Hub; default: the newest. The teacher's is the top-level "
        "`revision_of_model`.",
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="How much this student's preference counts where there are several: a draft's score is the mean "
        "over students with these weights.",
    )
    prompt_style: PromptStyle = Field(
        "auto",
        description="`chat`: prompts go through the chat template; `plain`: they don't; `auto`: if there is one, and "
        "the model is no base model that merely brings it along (`arte validate` says which, and why).",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="What the chat template is given beside the messages, such as `{reasoning_effort: low}`. A thought "
        "that the template can switch off is off; to switch it on is refused, for only a teacher can think "
        "(`teacher.reasoning`).",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Precision for probing and evaluation; `auto` is bfloat16 on a GPU that has it, else float32.",
    )
    attn_implementation: str | None = Field(
        None, description="Attention for probing; default: the top-level `attn_implementation`."
    )
    trust_remote_code: bool = Field(False, description="Run code that comes with the student's checkpoint.")
    sft: dict[str, Any] = Field(
        default_factory=dict, description="Any Axolotl keys for the student's fine-tuning, over the paper's recipe."
    )

    @field_validator("sft")
    @classmethod
    def _leaves_ours(cls, sft: dict[str, Any]) -> dict[str, Any]:
        check_sft_keys(sft)
        return sft

    @model_validator(mode="after")
    def _keeps_its_template(self) -> "StudentArgs":
        given = sorted({"chat_template", "chat_template_jinja"} & self.sft.keys())
        if given and self.prompt_style != "plain":
            raise ValueError(
                f"`sft.{given[0]}` would train the student behind other prompts than it is probed with. Put the "
                "template into the student's own folder (chat_template.jinja), or set `prompt_style: plain`"
            )
        return self

    @model_validator(mode="after")
    def _named(self) -> "StudentArgs":
        if not self.name:
            # Files are named after it.
            self.name = re.sub(r"[^A-Za-z0-9_.-]", "-", PurePath(self.base_model).name).lstrip("_.-") or "student"
        return self


class TeacherArgs(Block):
    """How the teacher is asked. The model itself is the top-level `base_model`."""

    reasoning: bool | Literal["auto"] = Field(
        "auto",
        description="Whether the teacher thinks before it writes. Its thoughts are cut off before anything is read, "
        "and neither shown nor trained on. `auto`: where its chat template opens a thought and can't be told not to.",
    )
    reasoning_tokens: int = Field(
        4096, ge=16, description="Longest thought, in tokens; what was not thought to its end by then is dropped."
    )
    prompt_style: PromptStyle = Field("auto", description="As `student.prompt_style`.")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="As `student.chat_template_kwargs`.",
    )


class ElicitArgs(Block):
    """Stage 1: the teacher drafts questions and rationales (paper, section 3.1)."""

    questions: int = Field(250, ge=1, description="Draft questions a task.")
    seeds_per_prompt: int = Field(3, ge=1, description="Seed questions shown in a question-generation prompt.")
    questions_per_prompt: int = Field(5, ge=1, description="New questions asked for in one call.")
    temperature: float = Field(1.0, ge=0, le=5, description="Sampling temperature of questions.")
    rationale_temperature: float = Field(0.0, ge=0, le=5, description="Sampling temperature of rationales.")
    max_new_tokens: int = Field(
        1024, ge=8, description="Longest reply, in tokens, to a question or a rationale prompt."
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Requests to the teacher at a time, which are stored together. Default: 16, on a GPU all that "
        "there are: one that ends is replaced by the next, and stored as it comes.",
    )
    prefill: bool = Field(
        False,
        description="For small teachers: begin their reply with the next question's tag, and behind a rationale that "
        "ended without an answer begin the answer's tag.",
    )
    keep: Keep = Field(
        "all",
        description="Which rationales become drafts. `all`: as in the paper; `agrees_with_target`: those whose answer "
        "is the one that the teacher claimed with the question; `majority`: those whose answer more of the question's "
        "rationales give than any other, and at least two.",
    )
    worked_examples: bool = Field(
        False,
        description="The teacher, as it was before its alignment, solves each seed question once (greedy, under the "
        "plain prompt). Solutions that reach the target are the examples in few-shot prompts, of respondents and of "
        "the evaluation; seeds that it does not solve are shown only where there are too few others, as bare answers. "
        "Without this, all are. Where the data has worked solutions (`questions.rationale`), these are shown.",
    )
    max_calls: int = Field(
        10, ge=1, description="Give up on questions after so many times the fewest calls that could have been enough."
    )


class RespondentArgs(Block):
    """A model that answers the validation questions for the IRT matrix."""

    base_model: str = Field(description="Path or Hub id.")
    revision: str | None = Field(None, min_length=1, description="As `student.revision`.")
    shots: list[Annotated[int, Field(ge=0, le=32)]] = Field(
        [0, 1, 2, 3], min_length=1, description="It answers once for each number of examples: so many respondents."
    )
    prompt_style: PromptStyle = Field("auto", description="As `student.prompt_style`.")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="As `student.chat_template_kwargs`.",
    )


def equal_respondents(respondents: Sequence[RespondentArgs]) -> str:
    """What is wrong where one model is asked the same in the same way twice; empty where none is."""
    seen: set[str] = set()
    for one in respondents:
        asked = one.model_dump(exclude={"shots"})
        for shots in one.shots:
            if (key := repr((asked, shots))) in seen:
                return (
                    f"{one.base_model} with `prompt_style: {one.prompt_style}` answers at {shots} shots twice, which "
                    "is one respondent: take one out, or give it other `shots` or another `prompt_style`"
                )
            seen.add(key)
    return ""


class PreferenceSetArgs(Block):
    """Stage 2: the validation questions that tell good drafts from bad ones (paper, section 3.2)."""

    method: Literal["irt", "random", "all"] = Field(
        "irt", description="`irt`: the most discriminating ones by item response theory; `random` and `all`: controls."
    )
    size: int = Field(40, ge=1, description="Questions in the preference set of a task.")
    respondents: list[RespondentArgs] = Field(
        default_factory=list,
        description="Models behind the IRT matrix; default: the student at 0, 1, 2 and 3 shots, or `pilot_drafts`.",
    )
    pilot_drafts: int = Field(
        0,
        ge=0,
        description="So many drafts a task, 30 say, answer all validation questions as respondents: the student with "
        "the draft as its one example, instead of the default respondents and beside those that are given. Stage 3 "
        "does not ask those on the chosen questions again. 0: none, as in the paper; else at least 8.",
    )
    consistency_questions: int = Field(
        0,
        ge=0,
        description="Draft questions a task whose rationales are also probed on the rest of the validation set, to "
        "show how well the preference set stands for it; 0: not checked. A question costs drafts × (validation - size) "
        "probes.",
    )

    @field_validator("pilot_drafts")
    @classmethod
    def _enough_drafts(cls, drafts: int) -> int:
        if 0 < drafts < 8:
            raise ValueError(f"{drafts} drafts can't tell questions apart: take 8 or more, 30 say, or 0 for none")
        return drafts

    @field_validator("respondents")
    @classmethod
    def _respondents_differ(cls, respondents: list[RespondentArgs]) -> list[RespondentArgs]:
        if equal := equal_respondents(respondents):
            raise ValueError(equal)
        return respondents


class RacingArgs(Block):
    """How `budget: racing` spends its probes. See `docs/fewer-calls.md`."""

    first: int = Field(
        12,
        ge=1,
        description="Preference questions that every draft is probed on to begin with; about a third of them is good.",
    )
    step: int = Field(4, ge=1, description="Preference questions more for a draft that is probed further.")
    share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="At most this share of drafts × preference questions is probed, once all have their `first`.",
    )
    confidence: float = Field(
        1.0,
        ge=0.5,
        le=1,
        description="A draft is settled, and probed no further, when its part in the pairs is as sure as this; 1: the "
        "whole `share` is spent.",
    )


class ProbeArgs(Block):
    """Stage 3: the student answers the preference set with each draft as its one example (paper, section 3.2)."""

    max_new_tokens: int = Field(256, ge=8, description="Longest answer, in tokens; of the respondents too.")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Probes in a batch: what a rank takes, and stores, at a time. How many of them are in flight "
        "together, `engine.cache_gib` decides. Default: 160, on a GPU all that a rank has to answer: one that ends is "
        "replaced by the next, and stored as it comes.",
    )
    budget: Literal["full", "racing"] = Field(
        "full",
        description="`full`: every draft on every preference question, as in the paper; `racing`: only where it is "
        "open who gets into the preference pairs.",
    )
    racing: RacingArgs = Field(default_factory=RacingArgs, description="For `budget: racing`.")
    score: Literal["answers", "likelihood", "likelihood_without_rationale"] = Field(
        "answers",
        description="A draft's score, s_r. `answers`: the share of right answers, as in the paper; `likelihood`: how "
        "likely the student finds the right answers with the draft as its example, without writing anything; "
        "`likelihood_without_rationale`: the same, with the draft's answer in the place of its rationale.",
    )

    ask_again: bool = Field(
        False,
        description="A reply without an answer that can be read is continued with the answer's tag begun, in probes, "
        "for respondents and in the evaluation alike: scores then tell less of the form and more of the content. Not "
        "in the paper.",
    )
    min_readable: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Stop when less than this share of the first 5 % of a task's probes (100 at least) has an answer "
        "that can be read; 0: go on whatever they say.",
    )

    @model_validator(mode="after")
    def _racing_counts_answers(self) -> "ProbeArgs":
        if self.budget == "racing" and self.score != "answers":
            raise ValueError("`budget: racing` goes with `score: answers` only: likelihoods are cheap, ask for all")
        return self


class PairArgs(Block):
    """Stage 4: preference pairs (paper, section 3.3)."""

    question_pairs: int = Field(50, ge=0, description="Question-level pairs a task.")
    rationale_pairs: int = Field(250, ge=0, description="Rationale-level pairs a task, at most.")
    quantile: float = Field(
        0.25, gt=0, le=0.5, description="Question-level pairs are drawn from the best and the worst share of this size."
    )
    margin: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Chosen and rejected must differ by more than this in score. Ties never make a pair.",
    )
    min_probability: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Pairs are kept only if the student truly prefers what is chosen with at least this probability, "
        "such as 0.9: scores are shrunk to what is usual in the task, by as much as they are noise (empirical Bayes), "
        "and best and worst are chosen by them. 0: every pair, as in the paper.",
    )
    equal_answers: bool = Field(
        False,
        description="Rationale-level pairs only of rationales with the same answer: the two with the widest gap. "
        "Otherwise a pair may teach which answer is right, not how to explain it.",
    )
    drafts: str | None = Field(
        None, description="A published `drafts.jsonl`: pairs are made from it and no model is asked."
    )
    scores: str | None = Field(None, description="The `scores.jsonl` that goes with `drafts`.")

    @model_validator(mode="after")
    def _both_or_none(self) -> "PairArgs":
        if (self.drafts is None) != (self.scores is None):
            raise ValueError("`drafts` and `scores` go together: give both or neither")
        if self.question_pairs + self.rationale_pairs == 0:
            raise ValueError("`question_pairs` and `rationale_pairs` are both 0, so there is nothing to align with")
        return self


class RegenerateArgs(Block):
    """Stage 6: the aligned teacher writes the student's training data (paper, section 3.4)."""

    questions: int = Field(250, ge=1, description="Tailored examples a task.")
    temperature: float = Field(1.0, ge=0, le=5, description="Sampling temperature of questions; rationales are greedy.")
    max_new_tokens: int = Field(1024, ge=8, description="Longest reply, in tokens.")
    keep: Keep = Field(
        "all",
        description="Which of the rationales written here are trained on. `all`: as in the paper; "
        "`agrees_with_target`: those whose answer is the one that the teacher claimed with the question; `majority`: "
        "those whose answer more of `samples` sampled rationales give than any other, and at least two "
        "(self-consistency).",
    )
    samples: int = Field(
        5, ge=3, description="For `keep: majority`: rationales sampled for each question, beside the greedy one."
    )
    sample_temperature: float = Field(0.7, gt=0, le=5, description="For `keep: majority`: their temperature.")


class EvaluateArgs(Block):
    """Stage 8: the base student and the tailored student on the test questions, by lm-evaluation-harness."""

    shots: list[Annotated[int, Field(ge=0, le=32)]] = Field(
        [0, 3], min_length=1, description="Numbers of examples in the prompt, each evaluated on its own."
    )
    limit: int | None = Field(None, ge=1, description="Test questions a task, at most.")
    max_new_tokens: int = Field(256, ge=8, description="Longest answer, in tokens.")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Questions that are given to the student at a time, at most; of benchmarks too. Default: all, of "
        "which as many are in flight together as there is memory for their keys and values.",
    )
    benchmarks: list[str] = Field(
        default_factory=list,
        description="Tasks or groups of lm-evaluation-harness to run too, by its own names and in its standard form: "
        "its prompts, number of examples, stop strings and metrics, and no chat template. The paper's Table 3 is "
        "`[gsm8k, arc_easy, arc_challenge, piqa, commonsense_qa]`. They come from the Hub; one whose data can't be had "
        "is skipped with the reason, and tried again by the next run.",
    )
    benchmark_limit: int | None = Field(None, ge=1, description="Questions a benchmark task, at most.")

    @field_validator("benchmarks")
    @classmethod
    def _benchmarks_differ(cls, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} stands there twice")
        return names


def _how_many(students: Any) -> str:
    return SEVERAL if isinstance(students, list) else ONE


def _which_engine(engine: Any) -> str:
    kind = engine.get("kind") if isinstance(engine, dict) else getattr(engine, "kind", None)
    return {"server": SERVED, "auto": CHOSEN}.get(kind, HERE) if isinstance(kind, str) else HERE


class ArteArgs(Block):
    """ARTE: align a teacher with a student's preferences, then train the student on what the teacher writes."""

    student: Annotated[
        Annotated[StudentArgs, Tag(ONE)] | Annotated[list[StudentArgs], Field(min_length=1), Tag(SEVERAL)],
        Discriminator(_how_many),
    ] = Field(
        description="The student, or a list of them: each is probed, the teacher is aligned with the mean of their "
        "scores, and each is fine-tuned on what it writes."
    )
    teacher: TeacherArgs = Field(default_factory=TeacherArgs, description="How the teacher is asked.")
    tasks: list[TaskArgs] = Field(min_length=1, description="The target tasks.")
    elicit: ElicitArgs = Field(default_factory=ElicitArgs, description="Stage 1, knowledge elicitation.")
    preference_set: PreferenceSetArgs = Field(default_factory=PreferenceSetArgs, description="Stage 2, preference set.")
    probe: ProbeArgs = Field(default_factory=ProbeArgs, description="Stage 3, probes.")
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
        "`task_consistent`. The untouched student is always evaluated beside them.",
    )
    evaluate: EvaluateArgs = Field(default_factory=EvaluateArgs, description="Stage 8, evaluation.")
    engine: Annotated[
        Annotated[TransformersEngineArgs, Tag(HERE)]
        | Annotated[AutoEngineArgs, Tag(CHOSEN)]
        | Annotated[ServerEngineArgs, Tag(SERVED)],
        Discriminator(_which_engine),
    ] = Field(
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
        "the one before, in `OUTPUT_DIR/round-N`. Rounds end early when the tuned students are no better than before "
        "on the held-out validation questions, `patience` rounds in a row.",
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
    def sampling_seed(self) -> int:
        """What the teacher is asked with: another in each round, where one that hardly moved would write the same."""
        if self.round == 1:
            return self.seed
        return int.from_bytes(hashlib.sha256(f"{self.seed}/round-{self.round}".encode()).digest()[:4])

    @field_validator("engine", mode="before")
    @classmethod
    def _known_engine(cls, engine: Any) -> Any:
        if isinstance(engine, dict) and engine.get("kind", "transformers") not in ("transformers", "auto", "server"):
            raise ValueError(f"`kind` is `transformers`, `auto` or `server` (found {engine['kind']!r})")
        return engine

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

    @model_validator(mode="after")
    def _likelihoods_can_be_had(self) -> "ArteArgs":
        if self.probe.score != "answers":
            if isinstance(self.engine, ServerEngineArgs) and self.engine.student:
                raise ValueError(
                    f"`probe.score: {self.probe.score}` needs the student in this process: a server doesn't tell how "
                    "likely an answer is. Leave out `engine.student`, or set `probe.score: answers`"
                )
            if self.preference_set.consistency_questions:
                raise ValueError("`preference_set.consistency_questions` are checked with `probe.score: answers` only")
        return self

    @field_validator("tasks", mode="wrap")
    @classmethod
    def _presets_become_tasks(cls, entries: Any, validate: ValidatorFunctionWrapHandler) -> list[TaskArgs]:
        if not isinstance(entries, list):
            return validate(entries)
        tasks: list[Any] = []
        places: list[int] = []
        errors: list[InitErrorDetails] = []
        for place, entry in enumerate(entries):
            try:
                made = presets.expand(entry) if _names_preset(entry) else [entry]
            except ValueError as error:
                errors.append(
                    InitErrorDetails(type="value_error", loc=(place, "preset"), input=entry, ctx={"error": error})
                )
                continue
            tasks += made
            places += [place] * len(made)
        try:
            checked = validate(tasks) if tasks or not errors else []
        except ValidationError as error:
            errors += _moved(error, places)
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return checked

    @field_validator("arms")
    @classmethod
    def _arms_differ(cls, arms: list[Arm]) -> list[Arm]:
        for arm in arms:
            if arms.count(arm) > 1:
                raise ValueError(f"{arm} stands there twice")
        return arms

    @model_validator(mode="after")
    def _rounds_have_what_they_need(self) -> "ArteArgs":
        if self.round > self.rounds:
            raise ValueError(f"`round: {self.round}` is more than `rounds: {self.rounds}`")
        if self.rounds > 1 and "arte" not in self.arms:
            raise ValueError("`rounds` go on with the student of the arm `arte`, which `arms` leaves out")
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
        for seed in seeds:
            if seeds.count(seed) > 1:
                raise ValueError(f"{seed} stands there twice")
        return seeds

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


def _names_preset(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("preset") is not None


def _moved(error: ValidationError, places: Sequence[int]) -> list[InitErrorDetails]:
    """The same problems, each at the entry of the YAML that its task comes from: a family is one entry, many tasks."""
    return [
        InitErrorDetails(
            type=detail["type"],
            loc=tuple(places[int(part)] if i == 0 else part for i, part in enumerate(detail["loc"])),
            input=detail["input"],
            ctx=detail.get("ctx", {}),
        )
        for detail in error.errors()
    ]


class ArteConfig(BaseModel):
    """What the plugin adds to Axolotl's config: the `arte:` block, and checks on top-level keys that it relies on."""

    arte: ArteArgs = Field(description="ARTE.")

    @model_validator(mode="before")
    @classmethod
    def _teacher_dpo(cls, values: Any) -> Any:
        """Raises `ValueError` (shown by Axolotl with the key) where the teacher's DPO run can't come about."""
        if not isinstance(values, dict) or "arte" not in values:
            raise ValueError("`plugins` names arte_plugin.ArtePlugin, but there is no `arte:` block")
        if not any(is_arte(name) for name in values.get("plugins") or []):
            raise ValueError("`plugins` must name the plugin: `plugins: [arte_plugin.ArtePlugin]`")
        rl = getattr(values.get("rl"), "value", values.get("rl"))
        if rl != "dpo":
            raise ValueError(f"ARTE aligns the teacher with DPO: set `rl: dpo` (found {rl!r})")
        check_own_adapter(values)
        check_aligned_teacher_can_be_served(values)
        # Axolotl has turned the entries into its own models by the time it validates.
        datasets = [entry if isinstance(entry, dict) else vars(entry) for entry in values.get("datasets") or []]
        paths = [entry.get("path") for entry in datasets]
        if paths.count(SENTINEL) != 1:
            raise ValueError(
                f"`datasets` must hold the entry {{path: {SENTINEL}, type: {PAIRS_STRATEGY}}} once, for the "
                f"plugin to fill in (found paths: {', '.join(map(str, paths)) or 'none'})"
            )
        entry = next(entry for entry in datasets if entry.get("path") == SENTINEL)
        if entry.get("type") != PAIRS_STRATEGY:
            raise ValueError(f"the data set {SENTINEL} needs `type: {PAIRS_STRATEGY}` (found {entry.get('type')!r})")
        return values
