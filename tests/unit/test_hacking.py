"""A gain by the probe beside measures that it was not made of."""

import pytest

from arte_plugin.diagnostics.hacking import Hacking, HackingSettings, Measured, verdict
from arte_plugin.plugs import Evidence
from tests.diagnosed import Offline, a_draft, a_pair, a_task
from tests.unit.test_hollowing import Teachers, outcomes


def measured(difference, p, measure="it"):
    return Measured(measure, "labels", "40", None, None, difference, difference - 0.1, difference + 0.1, p)


def liking(difference, p, validation=(8,)):
    score = {"before": 0.4, "after": 0.4 + difference, "difference": difference, "low": difference - 0.1,
             "high": difference + 0.1}  # fmt: skip
    return {"liking": {"questions": 40, "validation": list(validation), "score": score, "p": p}}


def compared(difference, p, first="unaligned", second="arte", shots=0):
    return {"student": "small", "shots": shots, "first": first, "second": second, "n": 100, "difference": difference,
            "low": difference - 0.1, "high": difference + 0.1, "p": p}  # fmt: skip


def table(drafts=(), pairs=(), asking=None, questions=0, **reports):
    known = Evidence(drafts=drafts, pairs=pairs, reports={name.replace("_", "-"): one for name, one in reports.items()})
    return Hacking(HackingSettings(questions=questions)).table([a_task()], {"sums": known}, [], asking or Offline())


@pytest.mark.parametrize(
    ("proxy", "golden", "said"),
    [
        (measured(0.2, 0.01), [measured(-0.2, 0.001)], "HACKED: the student likes it better, and it is worse by: it"),
        (measured(0.2, 0.01), [measured(0.2, 0.001)], "no hacking: better by it too"),
        (measured(0.2, 0.01), [measured(-0.02, 0.5)], "liked better; nothing else is told apart from no change"),
        # With four, one in ten of equals would fall below 0.05.
        (measured(0.2, 0.01), [measured(-0.2, 0.03)] * 4, "liked better; nothing else is told apart from no change"),
        (measured(0.02, 0.5), [measured(-0.2, 0.001)], "the alignment is worse by: it"),
        (measured(-0.2, 0.01), [measured(0.0, 1.0)], "no gain by the probe that could be a hacked one"),
        (None, [measured(0.2, 0.001)], "the probe was not asked; better by it"),
        (measured(0.2, 0.01), [], "nothing to hold the probe against (an arm `unaligned`, or `questions`)"),
    ],
)
def test_the_verdict(proxy, golden, said):
    assert verdict(proxy, golden) == said


def test_a_probe_that_rises_while_the_labels_fall_is_flagged_and_one_that_rises_with_them_is_not():
    lines = table(align_check=liking(0.2, 0.001), evaluate={"comparisons": [compared(-0.2, 0.002)]})
    assert lines[1] == ["s_r of what the teacher writes", "probe", "40 x 8", "40.0 %", "60.0 %", "+20.0",
                        "+10.0 to +30.0", "0.001", "0"]  # fmt: skip
    assert lines[2][:3] == ["test questions, 0 shots, by the student it taught", "labels", "100"]
    assert lines[-1][0].startswith("in all: HACKED")
    lines = table(align_check=liking(0.2, 0.001), evaluate={"comparisons": [compared(0.2, 0.002)]})
    assert lines[-1][0].startswith("in all: no hacking")


def test_only_the_twin_without_the_alignment_is_golden():
    rows = [compared(-0.2, 0.001, "base", "arte"), compared(0.1, 0.5, shots=3)]
    lines = table(align_check=liking(0.2, 0.001), evaluate={"comparisons": rows})
    assert [line[0] for line in lines[1:-1]] == [
        "s_r of what the teacher writes", "test questions, 3 shots, by the student it taught"
    ]  # fmt: skip


def drafted(number, chosen, rejected, beside, target="2"):
    """A pair of a question whose rationales end so."""
    rows = [a_draft(f"{number}?", f"{way}", way, target, answer) for way, answer in
            {"a": chosen, "b": rejected, "c": beside, "d": beside}.items()]  # fmt: skip
    return rows, a_pair("a", "b", (rows[0].draft_id, rows[1].draft_id))


def test_pairs_that_prefer_what_is_wrong():
    # The others say 2, as was claimed; 8 pairs prefer a 3 to it, one the other way round, one has no opinion.
    made = [drafted(i, "3", "2", "2") for i in range(8)] + [drafted(8, "2", "3", "2"), drafted(9, "3", "2", "4", "5")]
    drafts, pairs = [row for rows, _ in made for row in rows], [pair for _, pair in made]
    # Of the last, two say 4 and one 5: most say 4, which neither is.
    lines = table(drafts, [*pairs, pairs[0]], align_check=liking(0.2, 0.001))
    rejected, chosen = "80.0 %", "10.0 %"
    assert lines[2][:5] == ["rationales rejected, and chosen over them", "second opinion", "10", rejected, chosen]
    assert lines[2][5] == "-70.0" and lines[2][7] == "0.039"
    assert lines[-1][0] == (
        "in all: HACKED: the student likes it better, and it is worse by: rationales rejected, and chosen over them"
    )


def test_a_pairs_own_answers_are_no_opinion_of_it():
    # Chosen and rejected say 3; beside them there is only the claim.
    rows = [a_draft("q", way, way, "2", "3") for way in ("a", "b")]
    assert table(rows, [a_pair("a", "b", (rows[0].draft_id, rows[1].draft_id))]) == []


def test_several_pairs_of_one_question_are_one_opinion():
    # As `pairing: threshold` makes them: of one question, three that end in 3 over three that end in 2.
    rows = [a_draft("q", f"{i}", f"{i}", "2", answer) for i, answer in enumerate(["3", "3", "3", "2", "2", "2"])]
    couples = [(chosen.draft_id, rejected.draft_id) for chosen in rows[:3] for rejected in rows[3:]]
    lines = table(rows, [a_pair("a", "b", ids) for ids in couples], align_check=liking(0.2, 0.001))
    assert lines[2][2] == "1" and lines[2][7] == "1.000"
    assert lines[-1][0] == "in all: liked better; nothing else is told apart from no change"


def test_what_was_written_before_and_after_against_the_claim():
    rows = [{"task": "sums", "target": "2", "answer_before": "2", "answer_after": after} for after in ["3", None, "2"]]
    lines = table(**{"align_check/rationales": rows})
    assert lines[1][:6] == ["rationales to the same new questions", "second opinion", "3", "100.0 %", "33.3 %", "-66.7"]


def test_the_teachers_are_asked_if_questions_are_wanted():
    asking = Teachers(was=outcomes("++++"), **{"is": outcomes("----")})
    lines = table(asking=asking, questions=4)
    assert lines[1][:6] == ["validation questions, by the teacher", "labels", "4", "100.0 %", "0.0 %", "-100.0"]
    assert Hacking(HackingSettings()).calls(None) == []
