"""What stage 4 tells of its pairs: from probes, likelihoods and scores alone. No model."""

import math
from dataclasses import replace

import numpy as np
import pytest

from arte_plugin.config.pair import PairArgs
from arte_plugin.config.signals import read_signals
from arte_plugin.rows import AnswerLikelihood, Probe, Response, Score, write_rows
from arte_plugin.show.gap_lines import gap_lines, gap_note, gap_remarks, like_chance, technique_lines
from arte_plugin.show.tables import format_table
from arte_plugin.signals.likelihood import means
from arte_plugin.stages.cells import read_cells
from arte_plugin.stages.gaps import NO_PROBES, gap_report
from arte_plugin.stages.pairing import pair, rationale_ranks
from arte_plugin.stages.pilot import drafts_that_chose
from arte_plugin.stages.probing import Tally, preference_scores
from arte_plugin.stages.scoring import Scoring
from arte_plugin.stages.shrinkage import Belief, Shrunken
from tests.unit.test_pair import draft, everything_fits

TECHNIQUES = ("rule_first", "solve_then_check", "split", "step_by_step")
QUESTIONS, ASKED = 30, 20


def probed(skill, students=("s",), seed=0, asked=lambda draft, question: ASKED):
    """Drafts, probes and scores; `skill(technique)` is the chance of a right answer."""
    rng = np.random.default_rng(seed)
    drafts = [draft(f"q{i}", technique) for i in range(QUESTIONS) for technique in TECHNIQUES]
    probes = [
        Probe(one.draft_id, f"p{k}", one.task, name, "", "", "correct" if rng.random() < skill(one) else "wrong")
        for name in students
        for one in drafts
        for k in range(asked(one, name))
    ]
    tally = Tally()
    list(tally.counted(probes))
    return drafts, probes, tally.scores(drafts)


def no_difference(one):
    return 0.4


def by_technique(one):
    return 0.2 + 0.2 * TECHNIQUES.index(one.technique)


def report_of(tmp_path, drafts, rows, scores, name="probes.jsonl", weights=None):
    write_rows(tmp_path / name, rows)
    scored = preference_scores(scores, weights or {})
    pairs, _ = pair(drafts, scored, PairArgs(), 1, everything_fits)
    cells = read_cells(tmp_path / "scores.jsonl", scores)
    report = gap_report(drafts, scored, cells, weights or {}, pairs, 0.25, 1)
    assert gap_report(drafts, scored, cells, weights or {}, pairs, 0.25, 1) == report
    return report


def test_noise_is_called_noise(tmp_path):
    report = report_of(tmp_path, *probed(no_difference))
    found = report["sums"]["rationale"]
    assert found["p"] > 0.05 and found["gap"] == pytest.approx(found["chance"], abs=0.03)
    assert found["preference_questions"] == ASKED and found["questions"] == QUESTIONS
    assert "chance" in gap_note(report, "rationale") and "on the other half" in gap_note(report, "rationale")
    assert "sums (question level, p" in like_chance(report) and "sums (rationale level, p" in like_chance(report)


def test_a_preference_is_called_one(tmp_path):
    report = report_of(tmp_path, *probed(by_technique))
    found = report["sums"]["rationale"]
    assert found["p"] == 0.001 and found["halves"]["other_half"] > 0.5 > found["chance"]
    # Its questions are all alike.
    assert report["sums"]["question"]["p"] > 0.05 and "rationale level" not in like_chance(report)
    techniques = report["sums"]["techniques"]
    assert techniques["step_by_step"]["chosen"] > 20 and techniques["rule_first"]["rejected"] > 20
    assert technique_lines(report)[1][:2] == ["rule_first", "30"]


def test_drafts_that_chose_the_questions_are_not_tested_on_them(tmp_path):
    drafts, rows, scores = probed(no_difference)
    scored = preference_scores(scores, {})
    write_rows(tmp_path / "probes.jsonl", rows)
    cells = read_cells(tmp_path / "scores.jsonl", scores)
    few, many = ([one.draft_id for one in drafts[::step]] for step in (20, 4))
    report = gap_report(drafts, scored, cells, {}, [], 0.25, 1, pilots={*many, "another run's"})
    because = "the questions were chosen on 30 of these 120 drafts, so chance can't be told"
    assert report["sums"]["rationale"]["told"] == report["sums"]["question"]["told"] == because
    assert "p" not in report["sums"]["question"] and gap_note(report, "question") == because
    # Six of thirty questions: the test is that of the others alone.
    report = gap_report(drafts, scored, cells, {}, [], 0.25, 1, pilots=few)
    chose = {one.question_id for one in drafts if one.draft_id in few}
    others = [one for one in drafts if one.question_id not in chose]
    alone = gap_report(others, scored, cells, {}, [], 0.25, 1)
    for level in ("question", "rationale"):
        assert report["sums"][level] == alone["sums"][level] and report["sums"][level]["questions"] == 24
    assert any(line.startswith("6 questions had a say") for line in gap_remarks(report))
    assert not any("had a say" in line for line in gap_remarks(alone))


def test_the_drafts_that_chose_are_read_beside_the_scores(tmp_path):
    scores_file = tmp_path / "03-probe" / "scores.jsonl"
    assert drafts_that_chose(scores_file) == set()
    responses = [
        Response("the student", 1, "sums", "v1", "", "", "correct"),
        Response("a with b with q1-split", 1, "sums", "v1", "", "", "wrong"),
    ]
    folder = tmp_path / "02-preference-set"
    folder.mkdir()
    write_rows(folder / "responses.jsonl", responses)
    assert drafts_that_chose(scores_file) == {"q1-split"}


def test_scores_without_probes(tmp_path):
    drafts, _, scores = probed(no_difference)
    scored = preference_scores(scores, {})
    report = gap_report(drafts, scored, {}, {}, [], 0.25, 1)
    assert report["sums"]["rationale"]["told"] == report["sums"]["question"]["told"] == NO_PROBES
    assert gap_note(report, "rationale") == NO_PROBES and like_chance(report) == ""
    assert f"N{NO_PROBES[1:]}." in gap_remarks(report)
    # Probes of other scores lie there, from before the YAML was changed.
    write_rows(tmp_path / "probes.jsonl", probed(no_difference, seed=9)[1])
    assert read_cells(tmp_path / "scores.jsonl", scores) == {}


def test_likelihoods_are_cells_too(tmp_path):
    drafts, probes, _ = probed(by_technique)
    value = {"correct": 0.8, "wrong": 0.1}
    rows = [
        AnswerLikelihood(p.draft_id, p.preference_id, p.task, p.student, math.log(value[p.outcome]), 2) for p in probes
    ]
    scores, _ = Scoring(read_signals(["likelihood"]), list(means(rows))).scores(drafts)
    report = report_of(tmp_path, drafts, rows, scores, "likelihoods.jsonl")
    assert report["sums"]["rationale"]["p"] == 0.001
    # 0.7 of the difference in right answers, which is 0.6.
    assert report["sums"]["rationale"]["halves"]["other_half"] == pytest.approx(0.42, abs=0.06)


def test_of_several_students_the_weighted_score_counts(tmp_path):
    def only_the_first(one):
        return by_technique(one) if only_the_first.first else 0.4

    only_the_first.first = True
    drafts, probes, scores = probed(only_the_first, ("a",))
    only_the_first.first = False
    _, more, of_other = probed(only_the_first, ("b",), seed=1)
    light, heavy = (
        report_of(tmp_path, drafts, probes + more, scores + of_other, weights={"a": weight, "b": 1.0})
        for weight in (0.01, 10.0)
    )
    assert light["sums"]["rationale"]["p"] > 0.05
    assert heavy["sums"]["rationale"]["p"] == 0.001


def test_racing_is_told_on_what_every_draft_was_asked(tmp_path):
    drafts, probes, scores = probed(by_technique, asked=lambda one, name: 8 + 6 * (one.question_id < "q2"))
    report = report_of(tmp_path, drafts, probes, scores)
    assert report["sums"]["rationale"]["preference_questions"] == 8
    assert {row.n for row in scores} == {8, 14}


def test_one_rationale_a_question_leaves_questions_to_tell(tmp_path):
    drafts, probes, scores = probed(lambda one: 0.9 if one.question_id < "q2" else 0.2)
    of_one = [one for one in drafts if one.technique == "split"]
    ids = {one.draft_id for one in of_one}
    rows, of_scores = ([row for row in some if row.draft_id in ids] for some in (probes, scores))
    report = report_of(tmp_path, of_one, rows, of_scores)
    assert report["sums"]["question"]["p"] == 0.001
    assert report["sums"]["rationale"]["told"] == "no question has two rationales"


def test_ties_lengths_and_lost_rationales_are_told(tmp_path):
    values = {"q0": (9, 9, 1, 1), "q1": (9, 5, 1, 1), "q2": (3, 2, 1)}
    drafts = [draft(q, f"t{i}", "x" * (10 * count)) for q, row in values.items() for i, count in enumerate(row)]
    scores = [
        Score(one.draft_id, one.question_id, "sums", "s", count / 10, 10, 0.0, 1.0, 0)
        for one, count in zip(drafts, (c for row in values.values() for c in row), strict=True)
    ]
    scored = preference_scores(scores, {})
    pairs, _ = pair(drafts, scored, PairArgs(question_pairs=0), 1, everything_fits)
    found = gap_report(drafts, scored, {}, {}, pairs, 0.25, 1)["sums"]
    assert (found["rationale_best_tied"], found["rationale_worst_tied"]) == (1, 2)
    assert found["lengths"] == {"chosen": 70.0, "rejected": 10.0, "correlation_with_score": pytest.approx(1.0)}
    assert found["questions_without_a_rationale"] == 1
    remarks = " ".join(gap_remarks({"sums": found}))
    assert "Of 3 rationale pairs 1 had several best and 2 several worst" in remarks
    assert "70 characters, rejected 10; Spearman's correlation of length and score +1.00" in remarks


@pytest.mark.parametrize(
    ("settings", "answers", "too_long", "tied"),
    [
        # Best and worst are 9 and 1, each of two drafts.
        ({}, "AABB", "", (1, 1)),
        ({}, "AABB", "t1", (0, 1)),
        ({}, "AABB", "t1 t3", (0, 0)),
        # Of one answer, and the pair is 9 and 1 all the same: neither had another in its place.
        ({"equal_answers": True}, "ABBA", "", (0, 0)),
        ({"equal_answers": True}, "AAAB", "", (1, 0)),
    ],
)
def test_a_draft_that_could_not_be_paired_ties_with_none(settings, answers, too_long, tied):
    drafts = [
        replace(draft("q0", f"t{place}", f"{place} {answer}"), answer=answer) for place, answer in enumerate(answers)
    ]
    scored = {one.draft_id: score for one, score in zip(drafts, (0.9, 0.9, 0.1, 0.1), strict=True)}
    given = (drafts, scored, PairArgs(question_pairs=0, **settings), 1, lambda _, text: f"t{text[0]}" not in too_long)
    pairs, _ = pair(*given)
    found = gap_report(drafts, scored, {}, {}, pairs, 0.25, 1, ranks=rationale_ranks(*given))["sums"]
    assert (found["rationale_best_tied"], found["rationale_worst_tied"]) == tied


def test_drafts_that_are_ranked_by_what_is_believed_of_them_tie_by_that():
    drafts = [draft("q0", f"t{place}", str(place)) for place in range(4)]
    ids = [one.draft_id for one in drafts]
    scored = dict(zip(ids, (0.9, 0.9, 0.1, 0.1), strict=True))
    belief = dict(zip(ids, (0.8, 0.7, 0.2, 0.2), strict=True))
    believed = Shrunken({key: Belief(mean, 0.01) for key, mean in belief.items()}, {"q0": Belief(0.5, 0.01)})
    settings = PairArgs(question_pairs=0, min_probability=0.5)
    given = (drafts, scored, settings, 1, everything_fits, lambda task: believed)
    pairs, _ = pair(*given)
    found = gap_report(drafts, scored, {}, {}, pairs, 0.25, 1, ranks=rationale_ranks(*given))["sums"]
    assert (found["rationale_best_tied"], found["rationale_worst_tied"]) == (0, 1)


def test_tables_fit_a_terminal(tmp_path):
    report = report_of(tmp_path, *probed(no_difference))
    long = {"multistep_arithmetic_two_longer": report["sums"]}
    table = "\n".join([format_table(gap_lines(long)), format_table(technique_lines(long))])
    assert max(map(len, table.splitlines())) <= 100
