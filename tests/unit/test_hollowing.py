"""What the aligned teacher still solves, and what it has lost."""

import pytest

from arte_plugin.diagnostics.hollowing import Hollowing, HollowingSettings, solve
from arte_plugin.diagnostics.paired import change
from arte_plugin.plan.work import Sizes
from arte_plugin.rows import Attempt
from tests.diagnosed import Offline, a_task, by_head


class Teachers(Offline):
    """Two teachers who answer by rote: outcomes by name, in the order of the questions."""

    before, teacher = "was", "is"

    def __init__(self, **outcomes):
        self.outcomes, self.asked = outcomes, []

    def attempts(self, who, task, questions, *, samples=0, temperature=0.7):
        self.asked.append((who, task.name, len(questions)))
        return [
            Attempt(f"{who}{one.question_id}", who, task.name, one.question_id, 0, "", "", "", outcome)
            for one, outcome in zip(questions, self.outcomes[who], strict=False)
        ]


def table(asking, *tasks, questions=100):
    return by_head(Hollowing(HollowingSettings(questions=questions)).table(tasks, {}, [], asking))


def outcomes(text):
    return [{"+": "correct", "-": "wrong", "?": "unparsed"}[one] for one in text]


def test_a_table_by_hand():
    # Of 10, five were lost and one was won: 2 * (1 + 6) / 64.
    asking = Teachers(was=outcomes("+++++++-??"), **{"is": outcomes("++-----+??")})
    [line] = table(asking, a_task(validation=10))
    assert (line["n"], line["solved before"], line["solved after"]) == ("10", "70.0 %", "30.0 %")
    assert (line["lost"], line["won"], line["difference"], line["p"]) == ("5", "1", "-40.0", "0.219")
    assert (line["readable before"], line["after"], line["one answer to all"]) == ("80.0 %", "80.0 %", "10.0 %")
    # Agresti and Min: (1.5 - 5.5) / 12 -+ 1.96 * sqrt(7 - 16 / 12) / 12.
    assert line["95 % interval"] == "-72.2 to +5.5"


def test_a_hollowed_teacher_is_told_apart():
    asking = Teachers(was=outcomes("+" * 20), **{"is": outcomes("?" * 12 + "+" * 8)})
    [line] = table(asking, a_task(validation=20))
    assert line["p"] == "< 0.001" and line["after"] == "40.0 %" and line["95 % interval"].startswith("-")


def test_a_teacher_that_is_as_it_was():
    asking = Teachers(was=outcomes("+-+-"), **{"is": outcomes("+-+-")})
    [line] = table(asking, a_task())
    assert (line["difference"], line["p"], line["lost"], line["won"]) == ("+0.0", "1.000", "0", "0")


def test_one_teacher_is_asked_all_before_the_other():
    asking = Teachers(was=outcomes("++++"), **{"is": outcomes("++++")})
    one, other = a_task("sums"), a_task("more", validation=2)
    solve([one, other], asking, 3)
    assert asking.asked == [("was", "sums", 3), ("was", "more", 2), ("is", "sums", 3), ("is", "more", 2)]


def test_tasks_count_the_same_in_what_stands_for_all():
    asking = Teachers(was=outcomes("++++"), **{"is": outcomes("+-+-")})
    lines = table(asking, a_task("sums"), a_task("more", validation=1))
    # Half of one task, nothing of the other.
    assert lines[2]["task"] == "(all)" and lines[2]["difference"] == "-25.0" and lines[2]["n"] == "5"
    assert lines[2]["lost"] == lines[2]["one answer to all"] == ""


def test_what_it_asks_is_counted():
    [work] = Hollowing(HollowingSettings(questions=30)).calls(Sizes(250, 4, 100, 40, [0], 250))
    assert work.who == "teacher" and work.calls == 60
    [work] = Hollowing(HollowingSettings(questions=300)).calls(Sizes(250, 4, 100, 40, [0], 250))
    assert work.calls == 200


def test_nothing_has_not_changed():
    assert change([[], []]) is None
    assert change([[], [(True, True)]]).n == 1
    assert change([[(True, False), (False, False)]]).difference == pytest.approx(-0.5)
