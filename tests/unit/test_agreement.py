"""Which rationales are kept by their answers, from teachers that answer as they are told."""

from typing import cast

import pytest

from arte_plugin.config.arms import ARMS
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion
from arte_plugin.errors import TeacherError
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Question
from arte_plugin.stages.agreement import disagreement_note, majority
from arte_plugin.stages.elicit import elicit
from arte_plugin.stages.tailoring import Teachers, regenerate
from tests.plain import PlainRenderer


@pytest.mark.parametrize(
    ("given", "kind", "voted"),
    [
        (["3", "4", "4"], "number", "4"),
        (["4", "4.0", "5"], "number", "4"),
        (["True", "Yes", "False"], "boolean", "True"),
        (["3", "3", "4", "4"], "number", None),
        (["3", "3", "4", "4", "3"], "number", "3"),
        (["3", "4"], "number", None),
        (["3"], "number", None),
        ([], "number", None),
    ],
)
def test_majority_is_more_than_any_other_and_at_least_two(given, kind, voted):
    assert majority(given, kind) == voted


class Teacher:
    """Writes the questions `What is N?` with the target 4, and answers each as `answers[N]` says, in this order."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def generate(self, batch, keep=None):
        self.asked += batch
        return [Completion(self._reply(request), "stop", 1, 1) for request in batch]

    def _reply(self, request):
        if "new questions" in request.prompt:
            return "".join(
                f"<Question_4><input>What is {n}?</input><target>4</target></Question_4>" for n in self.answers
            )
        number = request.prompt.rpartition("What is ")[2].split("?")[0]
        sampled = [
            one for one in self.asked if f"What is {number}?" in one.prompt and "new questions" not in one.prompt
        ]
        place = next(i for i, one in enumerate(sampled) if one is request)
        return f"So. <ans>{self.answers[number][place]}</ans>"

    def report(self):
        return ""

    def close(self):
        pass


@pytest.fixture
def ask(tmp_path):
    def model(answers) -> Model:
        engine = Teacher(answers)
        cache = RequestCache(tmp_path / "requests.sqlite")
        return cast(Model, Model("teacher", {}, PlainRenderer(), lambda: engine, cache, 1, 10.0))

    return model


def task(techniques=4):
    args = TaskArgs(
        name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number",
        techniques={f"t{i}": f"Way {i}." for i in range(techniques)},
    )  # fmt: skip
    return Task(args, [Question(f"s{i}", "sums", f"{i} + {i}?", "4") for i in range(4)], [], [], 0)


ANSWERS = {"a": "4455", "b": "5554", "c": "4444"}


@pytest.mark.parametrize(
    ("keep", "kept", "reasons"),
    [
        ("all", {"a": "4455", "b": "5554", "c": "4444"}, []),
        ("agrees_with_target", {"a": "44", "b": "4", "c": "4444"}, ["rationale_other_than_target"] * 5),
        (
            "majority", {"b": "555", "c": "4444"},
            ["rationale_no_majority"] * 4 + ["rationale_other_than_majority"],
        ),
    ],
)  # fmt: skip
def test_drafts_are_kept_by_their_answers_and_the_others_are_counted(ask, keep, kept, reasons):
    drafts, dropped, _ = elicit(task(), ask(ANSWERS), ElicitArgs(questions=3, questions_per_prompt=3, keep=keep), 1)
    found: dict[str, str] = {}
    for draft in drafts:
        name = draft.question[len("What is ") : -1]
        found[name] = found.get(name, "") + draft.answer
    assert found == kept
    assert [row.reason for row in dropped if row.reason.startswith("rationale")] == reasons


def test_no_draft_kept_is_an_error_that_names_the_key(ask):
    with pytest.raises(TeacherError, match=r"Task sums: `elicit.keep: agrees_with_target` keeps none of the 4"):
        elicit(
            task(), ask({"a": "5555"}), ElicitArgs(questions=1, questions_per_prompt=1, keep="agrees_with_target"), 1
        )


@pytest.mark.parametrize(
    ("keep", "kept", "reasons", "asked"),
    [
        ("all", ["a", "b", "c", "d"], [], 4),
        ("agrees_with_target", ["a", "d"], ["rationale_other_than_target"] * 2, 4),
        ("majority", ["a", "b"], ["rationale_other_than_majority", "rationale_no_majority"], 4 * 4),
    ],
)
def test_tailored_examples_are_kept_by_their_answers(ask, keep, kept, reasons, asked):
    # The greedy answer first, then three sampled ones.
    teacher = ask({"a": "4449", "b": "5556", "c": "5444", "d": "4567"})
    settings = RegenerateArgs(questions=4, keep=keep, samples=3)
    [made] = regenerate(
        [task()], Teachers(teacher), {"arte": ARMS["arte"]}, [], {}, settings, ElicitArgs(questions_per_prompt=4), 1
    )
    assert [row.question[len("What is ") : -1] for row in made.examples["arte"]] == kept
    assert [row.reason for row in made.dropped["arte"]] == reasons
    solved = [one for one in teacher.engine().asked if "new questions" not in one.prompt]
    assert len(solved) == asked
    assert [one.temperature for one in solved] == [0.0] * 4 + [0.7] * (asked - 4)
    assert len({(one.prompt, one.seed) for one in solved[4:]}) == asked - 4


def test_share_that_disagrees_is_told_whatever_is_kept():
    assert disagreement_note([("4", "4.0"), ("5", "4"), ("Yes", "True")], ["number", "number", "boolean"]) == (
        "1 (33 %) answer other than the claimed target"
    )
    assert disagreement_note([("4", "4")], ["number"]) == disagreement_note([], []) == ""
