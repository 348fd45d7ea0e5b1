"""Form and content of replies apart."""

from dataclasses import replace

import pytest

from arte_plugin.diagnostics.cells import most_frequent
from arte_plugin.diagnostics.format import Format, Read, split
from arte_plugin.plugs import Evidence, NoSettings
from arte_plugin.rows import Dropped, PreferenceQuestion, Probe, Response, Result, wilson
from tests.diagnosed import Offline, a_draft, a_task, an_example, questions


def result(arm, n, correct, unparsed, shots=0, seed=None):
    return Result("sums", "", arm, "small", shots, n, correct, unparsed, correct / n, *wilson(correct, n), seed)


def table(known=None, results=(), task=None):
    return Format(NoSettings()).table([task or a_task()], {"sums": known or Evidence()}, results, Offline())[1:]


def shares(line):
    """Readable, right when readable, right; without their intervals."""
    return [cell.partition(" (")[0] for cell in line[4:7]]


def test_a_gain_is_form_and_content():
    # p: 0.5 to 1, q: 0.5 to 0.6. By form 0.5 * 0.55, by content 0.1 * 0.75, in all 0.6 - 0.25.
    form, content = split(Read(100, 50, 25), Read(100, 100, 60))
    assert (form.difference, content.difference) == pytest.approx((0.275, 0.075))
    # Variances: p 52/104 and 102/104, q 27/54 and 62/104.
    p = (0.5 * 0.5 + 102 / 104 * 2 / 104) / 104
    q = 0.25 / 54 + 62 / 104 * 42 / 104 / 104
    assert form.high - form.difference == pytest.approx(1.96 * (0.55**2 * p + 0.25**2 * q) ** 0.5, rel=1e-3)
    assert content.difference - content.low == pytest.approx(1.96 * (0.75**2 * q + 0.05**2 * p) ** 0.5, rel=1e-3)


def test_a_gain_of_form_alone_is_told_as_such():
    lines = table(results=[result("base", 200, 40, 120), result("arte", 200, 100, 0)])
    assert [line[2] for line in lines] == ["base", "arte", "arte less base: by form, by content, in all"]
    assert lines[0][3:7] == ["200", "40.0 % (33.5 to 46.9)", "50.0 % (39.3 to 60.7)", "20.0 % (15.0 to 26.1)"]
    form, content, gain = lines[2][4:7]
    assert form.startswith("+30.0 (+2") and content.startswith("+0.0 (-") and gain == "+30.0"


def test_a_base_without_any_readable_answer_has_no_split():
    lines = table(results=[result("base", 20, 0, 20), result("arte", 20, 10, 0)])
    assert lines[0][5] == "-"
    assert lines[2][4:7] == ["-", "-", "+50.0"]


def test_seeds_are_averaged():
    lines = table(
        results=[result("base", 10, 1, 0), result("arte", 10, 4, 2, seed=1), result("arte", 10, 6, 0, seed=2)]
    )
    assert (
        lines[1][3] == "10" and lines[1][4][:6] == "90.0 %" and lines[1][6][:6] == "50.0 %" and lines[2][6] == "+40.0"
    )


def test_the_mean_over_seeds_may_be_broken():
    # 4.5 of 4.5 are right: that is all of them, and no more.
    lines = table(results=[result("arte", 5, 4, 1, seed=1), result("arte", 5, 5, 0, seed=2)])
    assert lines[0][5].startswith("100.0 % (") and lines[0][5].endswith(" to 100.0)")


def test_chance_is_the_most_frequent_answer_of_the_questions_asked():
    task = a_task(test=questions(4, target=lambda i: "1" if i < 2 else "2" if i == 2 else "3"))
    assert table(results=[result("base", 2, 1, 0)], task=task)[0][-1] == "100.0 %"
    assert table(results=[result("base", 4, 1, 0)], task=task)[0][-1] == "50.0 %"


def test_probes_and_the_student_alone():
    def response(i, outcome):
        return Response("small", 0, "sums", f"validation{i}", "", "", outcome)

    def probe(i, outcome):
        return Probe("d", f"p{i}", "sums", "small", "", "", outcome)

    known = Evidence(
        responses=[response(0, "unparsed"), response(1, "wrong"), response(2, "unparsed"), response(3, "correct"),
                   replace(response(0, "correct"), shots=3)],
        preference_set=[PreferenceQuestion(f"p{i}", "sums", "", str(i), None, None) for i in range(4)],
        probes=lambda: iter([probe(0, "correct"), probe(1, "correct"), probe(2, "wrong"), probe(3, "unparsed")]),
    )  # fmt: skip
    alone, shown = table(known)
    assert alone[1:4] == ["validation, no example", "small", "4"] and shares(alone) == ["50.0 %", "50.0 %", "25.0 %"]
    assert shown[1:4] == ["probes, a draft shown", "small", "4"]
    # 2 of 3, and 2 of 4; four targets, each once.
    # One draft only: t has one degree of freedom, and nothing is known.
    assert shown[6].endswith("(0.0 to 100.0)")
    assert shares(shown) == ["75.0 %", "66.7 %", "50.0 %"] and shown[-1] == "25.0 %"


def test_what_the_teacher_wrote_is_read_as_the_student_will_see_it():
    drafts = [a_draft("1 + 1", "two <ans>2</ans>"), a_draft("1 + 2", "two <ans>2</ans>", target="3")]
    examples = {
        "arte": [an_example("5 - 3", "<ans>2</ans>"), an_example("4 - 2", "the answer is two", answer="2")],
        "original_teacher": [an_example("1 + 1", "two <ans>2</ans>")],
    }
    lost = [
        Dropped("elicit", "rationale_truncated", "sums", "d", "and"),
        Dropped("elicit", "rationale_other_than_target", "sums", "d", "and"),
        Dropped("regenerate", "rationale_without_answer", "other", "d", "and"),
    ]
    lines = {
        tuple(line[1:3]): (line[3], *shares(line)[:2])
        for line in table(Evidence(drafts=drafts, examples=examples, dropped=lost))
    }
    assert lines["rationales of drafts", "teacher"] == ("3", "66.7 %", "50.0 %")
    # An answer beside a rationale without one is no form that a student could learn.
    assert lines["examples", "arte"] == ("2", "50.0 %", "100.0 %") == lines["rationales of examples", "teacher"]
    assert lines["examples", "original_teacher"] == ("1", "100.0 %", "100.0 %")


def test_one_answer_is_one_however_it_is_written():
    assert most_frequent(["True", "true", "yes", "False"], "boolean") == 0.75
    assert most_frequent(["5", "5.0", "6"], "number") == pytest.approx(2 / 3)
    assert most_frequent([], "number") is None
