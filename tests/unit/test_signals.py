"""Signals without a model: values worked out by hand."""

import math
from dataclasses import dataclass, field, replace

import pytest

from arte_plugin.config.plugs import chosen
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Likelihood
from arte_plugin.language import prompts
from arte_plugin.plan.lengths import Lengths
from arte_plugin.plan.work import Sizes
from arte_plugin.plugs import Evidence
from arte_plugin.rows import AnswerLikelihood, Attempt, Draft, Measure, PreferenceQuestion, Probe, wilson
from arte_plugin.signals import SIGNALS
from arte_plugin.signals.difficulty import guess_prompt
from arte_plugin.signals.format_length import form
from arte_plugin.signals.neighbours import closeness

TASK = Task(
    TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}, answer="number"), [], [], [], 0
)
CHOSEN = [
    PreferenceQuestion(f"p{i}", "sums", text, "1", None, None)
    for i, text in enumerate(["red apples and pears", "blue cars and trucks", "red apples", "green cars"])
]


def draft(name: str, question="red apples", answer="4", rationale="Two and two. So it is <ans>4</ans>", target="4"):
    return Draft(name, "sums", name.partition("-")[0], question, target, name[-1], rationale, answer, "", "")


def probes(*outcomes: str, of: str, student="s") -> list[Probe]:
    """One letter a preference question: r(ight), w(rong), u(nparsed), or - for not asked."""
    words = {"r": "correct", "w": "wrong", "u": "unparsed"}
    return [
        Probe(of, f"p{i}", "sums", student, "", "", words[letter])
        for i, letter in enumerate("".join(outcomes))
        if letter != "-"
    ]


class Renderer:
    """Marks where a turn begins and ends."""

    end_of_reply = "[end]"

    def prompt(self, text, prefill=""):
        return f"[{text}]{prefill}" if text or prefill else ""

    def part_of_reply(self, text):
        return text


class Student:
    name = "s"
    renderer = Renderer()


@dataclass
class Asking:
    """What is answered is written down: log-probabilities and tokens by `(prompt, text)`, outcomes by question."""

    likely: dict = field(default_factory=dict)
    outcomes: dict = field(default_factory=dict)
    student: Student = field(default_factory=Student)
    asked: list = field(default_factory=list)

    def likelihoods(self, who, replies, what):
        self.asked += [(one.prompt, one.text) for one in replies]
        return [Likelihood(*self.likely[one.prompt, one.text], all_tokens=99) for one in replies]

    def attempts(self, who, task, questions, *, samples=0, temperature=0.7, greedy=True):
        self.asked.append((who.name, samples, temperature, greedy))
        return [
            Attempt(f"{one.question_id}/{i}", who.name, task.name, one.question_id, i + 1, "", "", one.target, outcome)
            for one in questions
            for i, outcome in enumerate(self.outcomes[one.question_id])
        ]


def measured(entry, drafts, found=(), asking=None) -> list[Measure]:
    signal = chosen("signals", entry).made()
    evidence = Evidence(drafts=drafts, preference_set=CHOSEN, probes=lambda: iter(found))
    rows = list(signal.measure(TASK, drafts, CHOSEN, evidence, asking or Asking()))
    made = [row for row in rows if isinstance(row, Measure)]
    assert all(0 <= row.low <= row.value <= row.high <= 1 and row.task == "sums" and row.student == "s" for row in made)
    assert len({row.id for row in made}) == len(made)
    return made


def values(rows) -> dict[str, float]:
    return {row.id: row.value for row in rows}


def test_answers_is_the_share_of_right_ones():
    drafts = [draft("a-x"), draft("a-y"), draft("b-x")]
    found = probes("rwur", of="a-x") + probes("wwww", of="a-y") + probes("r---", of="nobodys")
    first, second = measured("answers", drafts, found)
    assert (first.id, first.value, first.raw, first.n) == ("a-x", 0.5, 0.5, 4)
    assert (first.low, first.high) == wilson(2, 4)
    assert (second.value, second.n) == (0.0, 4)


def test_agreement_with_the_target_and_with_the_other_rationales():
    drafts = [draft("a-x"), draft("a-y", answer="4.0"), draft("a-z", answer="5"), draft("b-x", answer="7")]
    # 4.0 is 4; nothing of it is an estimate.
    rows = measured("agreement", drafts)
    assert values(rows) == {"a-x": 1.0, "a-y": 1.0, "a-z": 0.0, "b-x": 0.0}
    assert {(row.n, row.low == row.value == row.high) for row in rows} == {(1, True)}
    # A question's only rationale has no others.
    rows = measured({"agreement": {"against": "rationales"}}, drafts)
    assert values(rows) == {"a-x": 0.5, "a-y": 0.5, "a-z": 0.0}
    assert {row.n for row in rows} == {2}


def test_the_nearest_preference_questions_are_those_with_the_same_words():
    near = closeness(["red apples"], [one.question for one in CHOSEN])
    assert near.shape == (1, 4)
    # Identical, then half of its words, then none: "and", "cars" are not the draft's.
    assert near[0, 2] == pytest.approx(1) and 0 < near[0, 0] < 1 and near[0, 1] == near[0, 3] == 0


def test_neighbours_by_hand():
    drafts = [draft("a-x"), draft("b-x", question="green cars"), draft("c-x", question="Something else")]
    found = probes("wwrw", of="a-x") + probes("rwwr", of="b-x") + probes("rrww", of="c-x")
    # The draft's own text is p2, p3; near to nothing: the first.
    assert values(measured({"neighbours": {"nearest": 1}}, drafts, found)) == {"a-x": 1.0, "b-x": 1.0, "c-x": 1.0}
    # p2 and p0; p3 and p1; p0 and p1.
    two = measured({"neighbours": {"nearest": 2}}, drafts, found)
    assert values(two) == {"a-x": 0.5, "b-x": 0.5, "c-x": 1.0}
    assert [(row.n, (row.low, row.high)) for row in two] == [
        (2, wilson(1, 2)), (2, wilson(1, 2)), (2, wilson(2, 2)),
    ]  # fmt: skip
    # With all of them it is the paper's score to the last digit.
    for nearest in (4, 10):
        all_of_them = measured({"neighbours": {"nearest": nearest}}, drafts, found)
        assert [replace(row, signal="answers") for row in all_of_them] == measured("answers", drafts, found)
    # Racing has left the nearest out: the nearest that was asked counts.
    assert values(measured({"neighbours": {"nearest": 1}}, drafts[:1], probes("r-", of="a-x"))) == {"a-x": 1.0}
    assert measured("neighbours", drafts[:1], probes("----", of="a-x")) == []


def solved(one: Draft) -> str:
    return f"[{prompts.solve_prompt('Add.', 'number', one.question)}]"


def guessed(one: Draft) -> str:
    return f"[{guess_prompt(one.rationale)}]"


def test_ifd_by_hand():
    drafts = [draft("a-x", rationale="first"), draft("b-x", rationale="second"), draft("c-x", rationale="third")]
    asking = Asking({
        # Losses of 1 and 2 nats a token: e^-1. Of 2 and 1: e, no help. Of 3 and 3: exactly 1, no help either.
        (solved(drafts[0]), "first"): (-4.0, 4), ("[end]", "first"): (-8.0, 4),
        (solved(drafts[1]), "second"): (-4.0, 2), ("[end]", "second"): (-2.0, 2),
        (solved(drafts[2]), "third"): (-3.0, 1), ("[end]", "third"): (-3.0, 1),
    })  # fmt: skip
    [row] = measured("ifd", drafts, asking=asking)
    assert (row.id, row.of, row.n) == ("a-x", "draft", 1)
    assert row.raw == row.value == pytest.approx(math.exp(-1))
    assert len(asking.asked) == 6
    # The same drafts are left out by the ratio of losses, which is 1 / 2.
    [row] = measured({"ifd": {"ratio": "loss"}}, drafts, asking=asking)
    assert (row.id, row.raw, row.value) == ("a-x", 0.5, 0.5)


def test_reversed_ifd_by_hand():
    drafts = [draft("a-x", question="one"), draft("b-x", question="two")]
    asking = Asking({
        # Lengths differ between the two tokenisations: losses are means of tokens.
        (guessed(drafts[0]), "one"): (-2.0, 4), ("[end]", "one"): (-5.0, 5),
        (guessed(drafts[1]), "two"): (-5.0, 5), ("[end]", "two"): (-2.0, 4),
    })  # fmt: skip
    [row] = measured("reversed_ifd", drafts, asking=asking)
    assert row.id == "a-x" and row.raw == pytest.approx(math.exp(-0.5))
    assert row.value == pytest.approx(1 - math.exp(-0.5)) == row.low == row.high
    [row] = measured({"reversed_ifd": {"ratio": "loss"}}, drafts, asking=asking)
    assert (row.id, row.raw, row.value) == ("a-x", 0.5, 0.5)


def test_a_model_that_doesnt_read_its_prompt_gives_exactly_one_and_no_measure():
    class Deaf(Asking):
        def likelihoods(self, who, replies, what):
            return [Likelihood(-3.7 * len(one.text), len(one.text), 99) for one in replies]

    for name in ("ifd", "reversed_ifd", {"ifd": {"ratio": "loss"}}, {"reversed_ifd": {"ratio": "loss"}}):
        assert measured(name, [draft("a-x"), draft("b-x")], asking=Deaf()) == []


def test_likelihood_is_the_mean_probability_of_the_right_answers():
    one = draft("a-x", rationale="because")
    for entry, example in (("likelihood", "because"), ({"likelihood": {"rationale": False}}, "<ans>4</ans>")):
        shown = [
            f"[{prompts.solve_prompt('Add.', 'number', q.question, [(one.question, example)])}]<ans>" for q in CHOSEN
        ]
        asking = Asking({
            (prompt, "1</ans>"): (math.log(p), 3) for prompt, p in zip(shown, (0.5, 0.25, 0.125, 1.0), strict=True)
        })  # fmt: skip
        [row] = measured(entry, [one], asking=asking)
        assert row.value == pytest.approx(1.875 / 4) == row.raw and row.n == 4
        assert (row.low, row.high) == pytest.approx(wilson(1.875, 4))
        signal = chosen("signals", entry).made()
        rows = list(signal.measure(TASK, [one], CHOSEN, Evidence(), asking))
        cells = [each for each in rows if isinstance(each, AnswerLikelihood)]
        assert [(each.draft_id, each.preference_id, each.tokens) for each in cells] == [
            ("a-x", f"p{i}", 3) for i in range(4)
        ]


def test_frontier_by_hand():
    drafts = [draft("a-x"), draft("a-y"), draft("b-x"), draft("c-x"), draft("d-x")]
    right, wrong = ["correct"], ["wrong"]
    outcomes = {"a": right * 4 + wrong * 4, "b": right * 8, "c": wrong * 7 + ["unparsed"], "d": right * 2 + wrong * 6}
    asking = Asking(outcomes=outcomes)
    rows = measured("frontier", drafts, asking=asking)
    found = values(rows)
    assert asking.asked == [("s", 8, 0.7, False)]
    # U(.5) = 1; U(0) = U(1) = e^(-.25/.08); U(.25) = e^(-.0625/.08).
    assert found["a"] == 1 and found["b"] == found["c"] == pytest.approx(0.0439, abs=5e-5)
    assert found["d"] == pytest.approx(math.exp(-0.78125))
    assert {row.of for row in rows} == {"question"} and {row.n for row in rows} == {8}
    assert {row.id: row.raw for row in rows} == {"a": 0.5, "b": 1.0, "c": 0.0, "d": 0.25}
    half, all_right = rows[0], rows[1]
    low, _ = wilson(4, 8)
    assert (half.low, half.high) == pytest.approx((math.exp(-((low - 0.5) ** 2) / 0.08), 1.0))
    low, _ = wilson(8, 8)
    assert (all_right.low, all_right.high) == pytest.approx((found["b"], math.exp(-((low - 0.5) ** 2) / 0.08)))
    # A curve with its top elsewhere.
    other = Asking(outcomes={"b": right * 2})
    entry = {"frontier": {"samples": 2, "temperature": 1.0, "mean": 1.0, "sd": 0.1}}
    assert values(measured(entry, [draft("b-x")], asking=other)) == {"b": 1.0}
    assert other.asked == [("s", 2, 1.0, False)]


def test_frontier_says_where_most_attempts_can_t_be_read(caplog):
    for unparsed, said in ((4, False), (5, True)):
        caplog.clear()
        with caplog.at_level("WARNING"):
            measured(
                "frontier",
                [draft("a-x")],
                asking=Asking(outcomes={"a": ["unparsed"] * unparsed + ["wrong"] * (8 - unparsed)}),
            )
        assert ("5 of 8 attempts of s have no answer that can be read" in caplog.text) is said


def test_form_counts_three_marks():
    assert form("One. Two. So it is <ans>2</ans>") == 1
    assert form("First\nthen <ans>2</ans>.") == 1
    assert form("<ans>2</ans>") == pytest.approx(2 / 3)
    assert form("One. Two. <ans>2</ans> Or <ans>3</ans>") == pytest.approx(1 / 3)
    assert form("One. Two. <ans>2</ans> And so on") == pytest.approx(2 / 3)
    assert form("Nothing") == pytest.approx(1 / 3)


def test_format_and_length_by_hand():
    full = "One. Two. So it is <ans>2</ans>"
    drafts = [
        draft("a-x", rationale=full),
        draft("a-y", rationale="<ans>2</ans>"),
        draft("b-x", rationale=full + " " * 69),
    ]
    assert [len(one.rationale) for one in drafts] == [31, 12, 100]
    found = values(measured("format_length", drafts))
    # The median is 31; a standard deviation is half a natural logarithm.
    assert found["a-x"] == 1
    assert found["a-y"] == pytest.approx(0.5 * math.exp(-(math.log(12 / 31) ** 2) / 0.5) + 0.5 * 2 / 3)
    assert found["b-x"] == pytest.approx(0.5 * math.exp(-(math.log(100 / 31) ** 2) / 0.5) + 0.5)
    only_form = values(measured({"format_length": {"length": 0.0}}, drafts))
    assert only_form == pytest.approx({"a-x": 1, "a-y": 2 / 3, "b-x": 1})
    longest = values(measured({"format_length": {"length": 1.0, "best": 100}}, drafts))
    assert longest["b-x"] == 1 and longest["a-y"] < longest["a-x"] < 1


SIZES = Sizes(
    questions=50, techniques=4, validation=100, size=40, shots=[], examples=0, test=0,
    student=Lengths(question=10, before=5, frame=2, chat_before=1, chat_behind=1, rationale=20, reply=30),
)  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "calls", "asked", "new"),
    [
        ("answers", 0, 0, 0),
        ("agreement", 0, 0, 0),
        ("neighbours", 0, 0, 0),
        ("format_length", 0, 0, 0),
        ("likelihood", 8000, 8000 * (1 + 5 + 10 + 2 + 20 + 10 + 2 + 1), 0),
        ({"likelihood": {"rationale": False}}, 8000, 8000 * (1 + 5 + 10 + 2 + 8 + 10 + 2 + 1), 0),
        ("ifd", 400, 200 * (2 + 5 + 10 + 2 + 20) + 200 * (2 + 20), 0),
        ("reversed_ifd", 250, 200 * (2 + 2 + 20 + 10) + 50 * (2 + 10), 0),
        ("frontier", 400, 400 * (2 + 5 + 10 + 2), 400 * 30),
    ],
)
def test_what_a_signal_costs(entry, calls, asked, new):
    works = list(chosen("signals", entry).made().calls(SIZES))
    assert (sum(one.calls for one in works), sum(one.asked for one in works)) == (calls, asked)
    assert sum(one.new for one in works) == new and {one.who for one in works} <= {"student"}


def test_every_signal_says_what_it_is_of_and_counts_the_same_by_default():
    assert {name for name, kind in SIGNALS.items() if kind.of == "question"} == {"frontier"}
    assert {name for name, kind in SIGNALS.items() if getattr(kind, "probes", False)} == {"answers", "neighbours"}
    assert {chosen("signals", name).settings.weight for name in SIGNALS} == {1.0}
    with pytest.raises(ValueError, match=r"`ifd\.weight`.*greater than 0"):
        chosen("signals", {"ifd": {"weight": 0}})
    with pytest.raises(ValueError, match="did you mean `frontier`"):
        chosen("signals", "fronteir")
