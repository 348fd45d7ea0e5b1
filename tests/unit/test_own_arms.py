"""Arms of a user's own: what the YAML may say, and what stage 6 makes of it with staged models."""

import pytest

from arte_plugin.config.arms import ARMS, ArmArgs
from arte_plugin.config.block import Block
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.probe import ProbeArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion
from arte_plugin.errors import ConfigError, StageError
from arte_plugin.models.asking import ModelAsking
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.operators.new_question import NewQuestions
from arte_plugin.plugs import NewRationale, NoSettings, Unread
from arte_plugin.rows import Dropped, Order, Question, TailoredExample
from arte_plugin.stages.arms import cut_in_all
from arte_plugin.stages.tailoring import Teachers, regenerate
from tests.plain import PlainRenderer
from tests.unit.test_students import check

HERE = __name__
SECRET = "Carry the one, says the report."
STUDENT = {"base_model": "x"}


class Noted(NewQuestions):
    """New questions for an order that says something to the teacher alone."""

    def prompt(self, task, order):
        return "\n".join([super().prompt(task, order), *order.notes])


class Reports:
    """Asks the student each seed, and orders with a note for each that it gets wrong."""

    Settings, version, costs = NoSettings, 1, "the student: a reply to each seed"
    operators = (f"{HERE}:Noted",)

    def __init__(self, settings):
        pass

    def calls(self, sizes):
        return ()

    def plan(self, tasks, orders, evidence, asking, wanted):
        for student in asking.students:
            for task in tasks:
                for one in asking.attempts(student, task, task.seeds):
                    if one.outcome != "correct":
                        order = Order("", task.name, self.operators[0], 2, tuple(task.seeds[:3]), notes=(SECRET,))
                        yield order.named(one.question_id)


class Louder:
    """Writes each rationale in capitals; drops those of questions that are odd."""

    Settings, version, makes, costs = NoSettings, 1, "rationale", "the teacher: a reply to each example"

    def __init__(self, settings):
        pass

    def calls(self, sizes):
        return ()

    def prompt(self, task, order):
        return f"LOUDER: {order.parent.question} / {order.rationale}"

    def begun(self, task, order):
        return ""

    def read(self, task, order, reply):
        yield NewRationale(reply) if "<ans>" in reply else Unread("no_answer", reply)


class LouderOnes:
    """Keeps what was rewritten, in the order of the originals."""

    class Settings(Block):
        none: bool = False

    version, costs = 1, "nothing"

    def __init__(self, settings):
        self.settings = settings

    def calls(self, sizes):
        return ()

    def select(self, task, examples, evidence, asking):
        assert {*evidence.examples} >= {"arte", "loud"}
        by_origin = {one.origin: one for one in examples}
        for one in examples:
            if one.origin.startswith(f"{HERE}:Louder/"):
                continue
            louder = by_origin.get(one.rewritten_as(f"{HERE}:Louder"))
            if louder is None or self.settings.none:
                yield Dropped("regenerate", "quiet", task.name, one.question, one.rationale)
            else:
                yield louder


class Staged:
    """A model with staged replies that keeps what it was asked, and when."""

    log: list[str]

    def __init__(self, name, log, reply):
        self.name, self.log, self.reply, self.prompts = name, log, reply, []

    def generate(self, batch, keep=None):
        self.log.append(self.name)
        self.prompts += [one.prompt for one in batch]
        return [Completion(self.reply(one), "stop", 1, 1) for one in batch]

    def report(self):
        return ""

    def close(self):
        self.log.append(f"close {self.name}")


def teacher_reply(request):
    if "new questions of the same kind" in request.prompt:
        return "".join(
            f"<Question_4><input>{request.seed % 10_000} + {i}?</input><target>4</target></Question_4>"
            for i in range(5)
        )
    if request.prompt.startswith("LOUDER"):
        return "LOUD. <ans>4</ans>" if "0?" not in request.prompt else "I won't."
    return "Two and two. <ans>4</ans>"


@pytest.fixture
def made(tmp_path):
    """Stage 6 of some arms with staged models: what it made, the engines by name, and the order of who was asked."""

    def run(arms, questions=6, student=lambda request: "<ans>2</ans>"):
        args = TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number")
        seeds = [Question(f"s{i}", "sums", f"{i} + {i}?", str(2 * i)) for i in range(6)]
        task = Task(args, seeds, [], [], 0)
        log: list[str] = []
        replies = {"aligned": teacher_reply, "unaligned": teacher_reply, "student": student}
        engines = {name: Staged(name, log, reply) for name, reply in replies.items()}
        cache = RequestCache(tmp_path / "requests.sqlite")
        models = {
            name: Model(name, {"model": name}, PlainRenderer(), lambda engine=engine: engine, cache, 100, 10.0)
            for name, engine in engines.items()
        }
        service = ModelAsking([models["student"]], lambda: models["aligned"], ProbeArgs(), 64, 1, "regenerate")
        [found] = regenerate(
            [task], Teachers(models["aligned"], models["unaligned"]), arms, [], {},
            RegenerateArgs(questions=questions), ElicitArgs(), 1, {}, service,
        )  # fmt: skip
        return found, engines, log

    return run


def own(**keys) -> ArmArgs:
    return ArmArgs.model_validate(keys)


FROM_REPORTS = own(name="from_reports", plan=[f"{HERE}:Reports"])
LOUD = own(name="loud", operators=[f"{HERE}:Louder"], select=[f"{HERE}:LouderOnes"])


def test_a_plan_of_ones_own_is_asked_for_and_its_notes_reach_the_teacher_alone(made):
    found, engines, log = made({"arte": ARMS["arte"], "from_reports": FROM_REPORTS})
    assert any(SECRET in prompt for prompt in engines["aligned"].prompts)
    assert engines["student"].prompts and not any(SECRET in prompt for prompt in engines["student"].prompts)
    rows = found.examples["from_reports"]
    assert len(rows) == len(found.examples["arte"]) == 6
    # What the student will be trained on, and tested with, is the plain prompt.
    assert not any(SECRET in text for row in rows for text in (row.prompt, row.question, row.rationale))
    assert all(row.origin for row in rows) and not any(row.origin for row in found.examples["arte"])
    # One model at a time: the student was let go before the teacher was asked.
    assert log.index("close student") < log.index("aligned")
    # 5 of 6 seeds were got wrong, each of which asks for 2 questions; the teacher writes 5.
    assert found.wanted == {"aligned": 6, "from_reports": 6}
    assert found.ordered["from_reports"] == [2] * 4
    assert {row.id.split(",")[0] for row in found.dropped_questions["from_reports"]} == {"from_reports"}


def test_a_plan_comes_out_the_same_whatever_interrupted_the_run_before(made, monkeypatch):
    arms = {"arte": ARMS["arte"], "from_reports": FROM_REPORTS}
    asked = Staged.generate

    def killed(self, batch, keep=None):
        if self.name == "aligned" and "LOUD" not in batch[0].prompt and self.prompts:
            raise KeyboardInterrupt
        return asked(self, batch, keep)

    monkeypatch.setattr(Staged, "generate", killed)
    with pytest.raises(KeyboardInterrupt):
        made(arms)
    monkeypatch.setattr(Staged, "generate", asked)
    after, engines, _ = made(arms)
    assert engines["student"].prompts == [], "the student's attempts were in the cache"
    assert engines["aligned"].prompts, "and what had not been asked was asked now"
    # Nothing is in the way of a run without interruption: all is in the cache now, so the same orders ask nothing.
    again, engines, _ = made(arms)
    assert not any(engine.prompts for engine in engines.values())
    assert again == after


def test_what_operators_make_stands_beside_the_examples_for_the_selectors(made):
    found, engines, log = made({"arte": ARMS["arte"], "loud": LOUD})
    rows, arte = found.examples["loud"], found.examples["arte"]
    assert [row.rationale for row in rows] == ["LOUD. <ans>4</ans>"] * 4
    assert all(row.origin.startswith(f"{HERE}:Louder/") for row in rows)
    # Two of the six questions end in "0?": those were not rewritten, and so not selected; arte is cut to the rest.
    reasons = [row.reason for row in found.dropped["loud"]]
    assert (reasons.count("rationale_no_answer"), reasons.count("quiet"), len(reasons)) == (2, 2, 4)
    assert [row.reason for row in found.dropped["arte"]] == ["equal_size"] * 2
    assert {row.question for row in arte} - {row.question for row in rows}, "those that were not rewritten"
    # Questions and their first rationales are shared with arte.
    assert sum("new questions" in prompt for prompt in engines["aligned"].prompts) == 2
    assert "unaligned" not in log


def test_selectors_that_leave_nothing_say_so(made):
    none = own(name="loud", operators=[f"{HERE}:Louder"], select=[{f"{HERE}:LouderOnes": {"none": True}}])
    with pytest.raises(StageError, match=r"the selectors of the arm loud leave none of its .* examples \(quiet\)"):
        made({"arte": ARMS["arte"], "loud": none})


def test_the_teacher_that_wrote_a_rationale_rewrites_it(made):
    arm = own(
        name="loud", questions="unaligned", rationales="unaligned", operators=[f"{HERE}:Louder"],
        select=[f"{HERE}:LouderOnes"],
    )  # fmt: skip
    _, engines, _ = made({"arte": ARMS["arte"], "loud": arm})
    assert any(prompt.startswith("LOUDER") for prompt in engines["unaligned"].prompts)
    assert not any(prompt.startswith("LOUDER") for prompt in engines["aligned"].prompts)


def test_the_aligned_teacher_may_answer_the_others_questions(made):
    arm = own(name="crossed", questions="unaligned", rationales="aligned")
    found, _, log = made({"unaligned": ARMS["unaligned"], "crossed": arm})
    assert [row.question for row in found.examples["crossed"]] == [row.question for row in found.examples["unaligned"]]
    who = [name for name in log if "close" not in name]
    assert [name for place, name in enumerate(who) if name != who[place - 1] or not place] == ["unaligned", "aligned"]


def test_a_plan_that_orders_nothing_is_told_with_its_task(made):
    with pytest.raises(StageError, match="Task sums: the plan orders nothing"):
        made({"from_reports": FROM_REPORTS}, student=lambda request: _right(request.prompt))


def _right(prompt):
    number = int(prompt.split("Question: ")[1].split(" +")[0])
    return f"<ans>{2 * number}</ans>"


def test_arms_of_unlike_tasks_are_cut_to_one_size_in_all():
    def rows(task, n):
        return [TailoredExample(task, f"{i}?", "4", "<ans>4</ans>", "4", "p") for i in range(n)]

    made = {"a": {"arte": rows("a", 10), "own": rows("a", 15)}, "b": {"arte": rows("b", 10), "own": rows("b", 3)}}
    cut = cut_in_all(made)
    sizes = {task: {arm: len(kept) for arm, kept in of_task[0].items()} for task, of_task in cut.items()}
    assert sizes == {"a": {"arte": 9, "own": 15}, "b": {"arte": 9, "own": 3}}
    assert {task: len(of_task[1]["arte"]) for task, of_task in cut.items()} == {"a": 1, "b": 1}


# --- What the YAML may say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (["arte", "unalignd"], r"arte.arms\[1\]: there is no arm `unalignd`: did you mean `unaligned`\?"),
        ([{"name": "Unaligned"}], "arms\\[0\\].name: `Unaligned` means something already"),
        ([{"name": "base"}], "`base` means something already"),
        ([{"nme": "x"}], r"arte.arms\[0\].name: this key is required"),
        ([{"name": "x", "pln": []}], "there is no such key; did you mean `plan`"),
        ([{"name": "x"}, {"name": "X"}], "x stands there twice"),
        (["arte", "arte"], "arte stands there twice"),
        ([{"name": "x", "plan": ["eror"]}], "there is no planner `eror`: did you mean `errors`"),
        (
            [{"name": "x", "plan": ["gap_shares"]}],
            r"`plan` begins with `gap_shares`, .*: `plan: \[paper, gap_shares\]`",
        ),
        ([{"name": "x", "plan": []}], "arms\\[0\\].plan: List should have at least 1 item"),
        ([{"name": "x", "select": ["paper"]}], "there is no selector `paper`"),
        ([{"name": "x", "rationales": "best"}], "`rationales: best` takes drafts"),
        ([{"name": "x", "questions": "drafted", "plan": ["errors"]}], "`plan` is for new questions"),
        ([{"name": "x", "operators": ["reflect"]}], "no selector says which of the two is trained on"),
        (
            [{"name": "x", "select": ["reflected"]}],
            r"`reflected` waits for what `reflect` makes.*operators: \[reflect\]",
        ),
        (
            [{"name": "x", "operators": ["reflect"], "select": [{"reflected": {"operator": "refelct"}}]}],
            "`reflected` waits for what `refelct` makes",
        ),
        ([{"name": "x", "operators": ["similar_question"]}], "no planner of `plan` orders from it"),
        ([{"name": "../x"}], "String should match pattern"),
    ],
)
def test_a_wrong_arm_is_told_before_anything_is_loaded(arms, said):
    with pytest.raises(ConfigError, match=said):
        check(STUDENT, arms=arms)


def test_a_served_student_tells_no_likelihoods():
    arm = {"name": "x", "operators": ["reflect"], "select": ["reflected"]}
    served = {"kind": "server", "api": "vllm", "student": {"command": "serve {model} --port {port}"}}
    with pytest.raises(ConfigError, match="the arm x needs the student in this process for `reflected`"):
        check(STUDENT, arms=["arte", arm], engine=served)
    by_accuracy, by_perplexity = ({"gap_shares": {"by": by}} for by in ("accuracy", "perplexity"))
    assert check(STUDENT, arms=[{"name": "x", "plan": ["paper", by_accuracy]}], engine=served)
    with pytest.raises(ConfigError, match="for `gap_shares`"):
        check(STUDENT, arms=[{"name": "x", "plan": ["paper", by_perplexity]}], engine=served)


def test_arms_go_by_what_they_combine():
    twin = own(name="twin")
    assert twin.is_plain and twin.key == ARMS["arte"].key
    assert ARMS["most_preferred"].key == ARMS["original_teacher"].key
    other = own(name="other", plan=[{"paper": {"questions_per_prompt": 2}}])
    assert not other.is_plain and other.key != twin.key


def test_settings_of_the_plans_operators_are_those_that_the_arm_gives():
    arm = own(name="x", plan=["errors"], operators=[{"similar_question": {"show_answer": True}}])
    assert [one.settings.show_answer for one in arm.writing] == [True]
    assert arm.rewriting == [] and arm.key != own(name="x", plan=["errors"]).key
