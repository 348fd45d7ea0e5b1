"""`arte.arms`: the data sets that a student is trained on, each a named combination of who writes what.

Table 2 of the paper tells apart who writes the questions and who the rationales, Table 6 which rationale of an
unaligned teacher is taken. `unaligned` is not in the paper: it differs from ARTE's own in nothing but the alignment, so
it is what tells what the alignment is good for. Arms that combine the same hold the same rows.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from arte_plugin.config.block import Block
from arte_plugin.config.plugs import Chosen, chosen, chosen_all
from arte_plugin.plugs import Operator, Planner

#: Whose new questions, or the draft questions of stage 1.
Questions = Literal["drafted", "aligned", "unaligned"]
#: That teacher's answer to the plain prompt. The others take one of a question's drafts: the best-scored one, any one,
#: or that in the technique which does best over the whole task.
Rationales = Literal["aligned", "unaligned", "best", "random", "best_technique"]

#: What stands in an arm's place among files, folders and tables.
_TAKEN = (
    "base", "tailored", "dropped", "near_duplicates", "drafts", "student", "prepared", "aligned", "drafted", "questions"
)  # fmt: skip


class ArmArgs(Block):
    """An arm of your own: whose questions, whose rationales, and what is planned, rewritten and selected."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=80,
        description="Its name in files and tables; none of the arms that are there already.",
    )
    questions: Questions = Field(
        "aligned", description="Whose questions: new ones of the aligned or the unaligned teacher, or the drafts'."
    )
    rationales: Rationales = Field(
        "aligned",
        description="Whose rationales: the aligned or the unaligned teacher's, or, of the drafts' questions, the "
        "`best`-scored draft, a `random` one, or that in the `best_technique` of the task.",
    )
    plan: list[Any] = Field(
        ["paper"],
        min_length=1,
        description="What the teacher is asked for to get new questions: planners, chained.",
    )
    operators: list[Any] = Field(
        [],
        description="Operators that make a rationale: each is applied to every example, and what comes of it stands "
        "beside the example for the selectors. Operators that make questions stand here only to have their settings "
        "for the plan.",
    )
    select: list[Any] = Field(
        [], description="Which examples stay: selectors, chained. All arms are then cut to the size of the smallest."
    )

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name.lower() in (*ARMS, *_TAKEN):
            raise ValueError(f"`{name}` means something already: call it otherwise")
        return name

    @field_validator("plan")
    @classmethod
    def _planners(cls, entries: list[Any]) -> list[Any]:
        chosen_all("planners", entries)
        return entries

    @field_validator("operators")
    @classmethod
    def _operators(cls, entries: list[Any]) -> list[Any]:
        names = [one.name for one in chosen_all("operators", entries)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"`{name}` stands there twice")
        return entries

    @field_validator("select")
    @classmethod
    def _selectors(cls, entries: list[Any]) -> list[Any]:
        chosen_all("selectors", entries)
        return entries

    @model_validator(mode="after")
    def _goes_together(self) -> "ArmArgs":
        first = self.planners[0]
        if not cast(type[Planner], first.kind).operators:
            raise ValueError(
                f"`plan` begins with `{first.name}`, which orders nothing itself but works on those of the planner "
                f"before it: `plan: [paper, {first.name}]`, say"
            )
        if self.questions == "drafted" and self.plan != ["paper"]:
            raise ValueError("`plan` is for new questions, and `questions: drafted` takes those of stage 1")
        if self.questions != "drafted" and self.rationales not in ("aligned", "unaligned"):
            raise ValueError(
                f"`rationales: {self.rationales}` takes drafts, which only the drafts' questions have: set "
                "`questions: drafted`, or `rationales` to `aligned` or `unaligned`"
            )
        if (rewriting := [one.name for one in self.rewriting]) and not self.select:
            raise ValueError(
                f"`operators: [{', '.join(rewriting)}]` sets a second example beside each, and no selector says which "
                "of the two is trained on: name one in `select`"
            )
        for one in self.selectors:
            if (operator := getattr(one.made(), "waits_for", "")) and operator not in rewriting:
                raise ValueError(
                    f"`{one.name}` waits for what `{operator}` makes, and the arm's `operators` don't name that one: "
                    f"nothing would be chosen. Write `operators: [{operator}]`"
                )
        used = set(_ordered_from(self.planners))
        idle = [one.name for one in self.chosen_operators if _makes(one) == "questions" and one.name not in used]
        if idle:
            raise ValueError(f"`operators: [{idle[0]}]` makes questions, and no planner of `plan` orders from it")
        return self

    @property
    def planners(self) -> list[Chosen]:
        """The plan's, in their order."""
        return chosen_all("planners", self.plan)

    @property
    def chosen_operators(self) -> list[Chosen]:
        """All that `operators` names."""
        return chosen_all("operators", self.operators)

    @property
    def rewriting(self) -> list[Chosen]:
        """Those that are applied to each example."""
        return [one for one in self.chosen_operators if _makes(one) == "rationale"]

    @property
    def writing(self) -> list[Chosen]:
        """Those that the plan orders from, with the settings of `operators` or their defaults."""
        given = {one.name: one for one in self.chosen_operators}
        return [given.get(name) or chosen("operators", name) for name in _ordered_from(self.planners)]

    @property
    def selectors(self) -> list[Chosen]:
        """In their order."""
        return chosen_all("selectors", self.select)

    @property
    def reads_likelihoods(self) -> list[str]:
        """Those of its strategies that ask the student how likely a reply is, which a server can't tell."""
        return [one.name for one in (*self.planners, *self.selectors) if getattr(one.made(), "likelihoods", False)]

    @property
    def is_plain(self) -> bool:
        """Whether it is nothing but a choice of whose questions and whose rationales, as the paper's arms are."""
        return self.plan == ["paper"] and not self.operators and not self.select

    @property
    def plan_identity(self) -> list[Any]:
        """What the orders of its plan depend on beside the evidence."""
        return [one.identity for one in (*self.planners, *self.writing)]

    @property
    def identity(self) -> dict[str, Any]:
        """What its rows depend on, without its name; arms of the same identity hold the same rows."""
        whose = {"questions": self.questions, "rationales": self.rationales}
        if self.is_plain:
            return whose
        return {
            **whose,
            "plan": [] if self.plan == ["paper"] else self.plan_identity,
            "operators": [one.identity for one in self.rewriting],
            "select": [one.identity for one in self.selectors],
        }

    @property
    def key(self) -> str:
        """`identity` as a text that can be compared."""
        return json.dumps(self.identity, sort_keys=True)


def _ordered_from(planners: list[Chosen]) -> list[str]:
    names = (name for one in planners for name in cast(type[Planner], one.kind).operators)
    return list(dict.fromkeys(names))


def _makes(operator: Chosen) -> str:
    return cast(type[Operator], operator.kind).makes


def _of_the_papers(name: str, questions: Questions, rationales: Rationales) -> ArmArgs:
    return ArmArgs.model_construct(
        name=name, questions=questions, rationales=rationales, plan=["paper"], operators=[], select=[]
    )


ARMS: Mapping[str, ArmArgs] = {
    one.name: one
    for one in (
        _of_the_papers("arte", "aligned", "aligned"),
        _of_the_papers("unaligned", "unaligned", "unaligned"),
        _of_the_papers("original_teacher", "drafted", "best"),
        _of_the_papers("rationale_only", "drafted", "aligned"),
        _of_the_papers("question_only", "aligned", "unaligned"),
        _of_the_papers("random_technique", "drafted", "random"),
        _of_the_papers("most_preferred", "drafted", "best"),
        _of_the_papers("task_consistent", "drafted", "best_technique"),
    )
}


def _known(name: str) -> str:
    if name in ARMS:
        return name
    near = difflib.get_close_matches(name, ARMS, 1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    raise ValueError(
        f"there is no arm `{name}`: {hint}known are {', '.join(ARMS)}; one of your own is `{{name: {name or 'mine'}, "
        "questions: …, rationales: …, plan: …}`"
    )


#: Members of the union, as pydantic names them in the place of an error.
TAGS = NAMED, OWN = "arm-named", "arm-own"

Arm = Annotated[
    Annotated[str, AfterValidator(_known), Tag(NAMED)] | Annotated[ArmArgs, Tag(OWN)],
    Discriminator(lambda entry: OWN if isinstance(entry, dict | ArmArgs) else NAMED),
]


def arm_of(entry: str | ArmArgs) -> ArmArgs:
    """What an entry of `arms` combines."""
    return ARMS[entry] if isinstance(entry, str) else entry


def uses_drafts(arms: Iterable[ArmArgs]) -> bool:
    """Whether one of `arms` needs the drafts and their scores."""
    return any(arm.questions == "drafted" for arm in arms)


def each_named_once(entries: list[str | ArmArgs]) -> list[str | ArmArgs]:
    """The entries as they are. Raises `ValueError` where two have one name; case does not count, as in file names."""
    names = [arm_of(entry).name.lower() for entry in entries]
    for entry, name in zip(entries, names, strict=True):
        if names.count(name) > 1:
            raise ValueError(f"{arm_of(entry).name} stands there twice")
    return entries
