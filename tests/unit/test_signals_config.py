"""`arte.signals` and `probe.score`: what means the same, what doesn't go together, and what a plan says of them."""

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.signals import resident, signal_lines
from arte_plugin.plan.totals import works
from tests.unit.test_signals import SIZES

URLS = ["http://localhost:1/v1"]


def args(**keys) -> ArteArgs:
    task = {"name": "sums", "description": "Add.", "questions": {"path": "unread.jsonl"}, "answer": "number"}
    return ArteArgs.model_validate({"student": {"base_model": "s"}, "tasks": [task], **keys})


def test_score_and_signals_are_two_ways_to_say_the_same():
    assert (args().signals, args().probe.score) == (["answers"], "answers")
    bare = {"likelihood": {"rationale": False}}
    for keys, signals, score in (
        ({"signals": ["answers"]}, ["answers"], "answers"),
        ({"signals": [{"answers": {"weight": 2}}]}, [{"answers": {"weight": 2}}], "answers"),
        ({"probe": {"score": "likelihood"}}, ["likelihood"], "likelihood"),
        ({"signals": ["likelihood"]}, ["likelihood"], "likelihood"),
        ({"probe": {"score": "likelihood_without_rationale"}}, [bare], "likelihood_without_rationale"),
        ({"signals": [bare]}, [bare], "likelihood_without_rationale"),
        ({"signals": ["answers", "agreement"]}, ["answers", "agreement"], "answers"),
        ({"signals": ["answers", "likelihood"]}, ["answers", "likelihood"], "answers"),
    ):
        found = args(**keys)
        assert (found.signals, found.probe.score) == (signals, score)
        # As it comes back from Axolotl, and as it is written for a later round.
        again = ArteArgs.model_validate(found.model_dump())
        assert (again.signals, again.probe.score) == (signals, score)
    assert resident(args(signals=["answers", "agreement"]).chosen_signals) is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"signals": ["anwsers"]}, "did you mean `answers`"),
        ({"signals": []}, "at least 1 item"),
        ({"signals": ["ifd", {"ifd": {"weight": 2}}]}, "`ifd` stands there twice"),
        ({"signals": ["frontier"]}, r"`signals: \[answers, frontier\]`"),
        (
            {"signals": ["answers", "agreement"], "probe": {"score": "likelihood"}},
            r"leave out `probe\.score`\. For the same, write `signals: \[likelihood\]`",
        ),
        ({"signals": ["answers"], "probe": {"score": "likelihood_without_rationale"}}, r"\{rationale: false\}"),
        (
            {
                "signals": ["answers", "ifd"],
                "engine": {"kind": "server", "api": "vllm", "student": {"base_urls": URLS}},
            },
            r"`signals: \[answers, ifd\]` needs the student in this process.*without `ifd`",
        ),
        ({"signals": ["answers", "agreement"], "probe": {"budget": "racing"}}, r"set `budget: full`"),
        (
            {"signals": ["ifd"], "preference_set": {"consistency_questions": 3}},
            r"checked by the probes, which `signals: \[ifd\]` doesn't make",
        ),
        (
            {"signals": ["answers", "agreement"], "pair": {"min_probability": 0.9}},
            r"`pair\.min_probability` goes by the noise",
        ),
        (
            {"signals": ["neighbours"], "preference_set": {"size": 8}},
            r"the 10 `nearest` of 8 preference questions, which is all of them.*lower `nearest`, to 4",
        ),
    ],
)
def test_what_does_not_go_together_is_said(keys, said):
    with pytest.raises(ValueError, match=said):
        args(**keys)


def test_what_goes_together():
    args(signals=["answers", "agreement"], preference_set={"consistency_questions": 3})
    args(signals=["answers", "neighbours"], engine={"kind": "server", "api": "vllm", "student": {"base_urls": URLS}})
    args(signals=["answers"], probe={"budget": "racing"}, pair={"min_probability": 0.9})


def test_a_plan_counts_what_signals_ask():
    def calls(*signals, students=1):
        found = args(
            signals=list(signals),
            student=[{"base_model": f"s{i}", "name": f"s{i}"} for i in range(students)],
            preference_set={"method": "random"},
        )
        return {one.what: one for one in works(found, [SIZES]) if one.stage == "probe"}

    alone = calls("answers")
    assert list(alone) == ["probes"] and alone["probes"].calls == 200 * 40
    assert calls("answers", "agreement", "neighbours", "format_length") == alone
    more = calls("answers", "ifd", "frontier", students=2)
    assert {what: one.calls for what, one in more.items()} == {
        "probes": 2 * 8000, "likelihoods for IFD": 2 * 400, "attempts": 2 * 400,
    }  # fmt: skip
    # As long as a reply may be.
    assert more["attempts"].most == 800 * 256 and more["attempts"].new == 800 * 30
    assert list(calls("ifd")) == ["likelihoods for IFD"], "nobody reads probes"


def test_what_is_said_of_signals():
    assert signal_lines(args().chosen_signals) == []
    lines = signal_lines(args(signals=["answers", {"agreement": {"weight": 3}}, "frontier"]).chosen_signals)
    assert [line.partition(" (costs: ")[0] for line in lines] == [
        "signal answers: 25 % of a draft's score",
        "signal agreement: 75 % of a draft's score",
        "signal frontier: 100 % of a question's score",
    ]
    assert lines[1].endswith("(costs: nothing)")
