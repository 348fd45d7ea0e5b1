"""Calls and lengths of a plan, by hand."""

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer

from arte_plugin.config.arte import ArteArgs
from arte_plugin.data.tasks import load_task
from arte_plugin.language.prompts import question_prompt, solve_prompt
from arte_plugin.language.rendering import Renderer
from arte_plugin.plan import disk, lengths, sizes, totals, work
from arte_plugin.plan.rates import Rate
from tests.taught import TAUGHT

ROOT = Path(__file__).parents[2]
#: The paths in the examples begin in the repository's folder.
pytestmark = pytest.mark.usefixtures("in_the_repository")


def block(**changes) -> ArteArgs:
    tasks = [{"name": "one", "description": "Do it.", "questions": {"path": "hub/data"}}]
    return ArteArgs.model_validate({"student": {"base_model": "hub/student"}, "tasks": tasks, **changes})


def counted(args: ArteArgs, **more) -> dict[str, float]:
    task = {"questions": 250, "techniques": 4, "validation": 100, "size": 40, "shots": [0, 1, 2, 3], "examples": 250}
    planned = totals.works(args, [work.Sizes(**{**task, "test": 140, "seeds": 10, **more})])
    return {one.what: one.calls for one in planned}


def test_calls_of_the_papers_sizes_for_one_task():
    assert counted(block()) == {
        "draft questions": 63,
        "rationales": 1000,
        "respondents": 400,
        "probes": 40_000,
        # By the aligned teacher, and by the one that is not; of 300 pairs 30 are held out, and 50 others looked at.
        "check: question replies": 2 * 10,
        "check: rationales": 2 * 40,
        "check: pairs": 4 * (30 + 50),
        "check: probes": 2 * 40 * 60,
        "tailored questions": 2 * 63,
        "tailored rationales": 2 * 250,
        "evaluation": 2 * 3 * 140,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"probe": {"budget": "racing"}}, {"probes": 20_000}),
        ({"probe": {"budget": "racing", "racing": {"share": 0.1}}}, {"probes": 12_000}),
        ({"preference_set": {"consistency_questions": 10}}, {"consistency": 10 * 4 * 60}),
        ({"preference_set": {"method": "random"}}, {"respondents": None}),
        ({"student": [{"base_model": "a/x"}, {"base_model": "a/y"}]}, {"probes": 80_000, "evaluation": 2 * 6 * 140}),
        ({"evaluate": {"shots": [0], "limit": 10}}, {"evaluation": 3 * 10}),
        ({"seeds": [1, 2, 3]}, {"evaluation": 2 * 7 * 140}),
        ({"align": {"check": False}}, {"check: probes": None, "check: rationales": None}),
        ({"align": {"check_questions": 5, "held_out": 0}}, {"check: probes": 2 * 5 * 60, "check: pairs": 4 * 50}),
        ({"preference_set": {"method": "all"}}, {}),
        ({"from_run": "out"}, {"check: probes": None}),
        ({"arms": ["arte"]}, {"tailored questions": 63, "tailored rationales": 250, "evaluation": 2 * 2 * 140}),
        ({"arms": ["arte"], "seeds": [1, 2, 3]}, {"evaluation": 2 * 4 * 140}),
        # Two arms with the same rows: one student; and nobody writes anything for them.
        ({"arms": ["original_teacher", "most_preferred"]}, {"evaluation": 2 * 2 * 140, "tailored rationales": None}),
        ({"arms": ["arte", "question_only", "rationale_only"]}, {"tailored rationales": 750, "tailored questions": 63}),
        ({"pair": {"drafts": "d", "scores": "s"}}, {"rationales": None, "probes": None, "tailored rationales": 500}),
        ({"regenerate": {"questions": 30}}, {}),
        (
            {"probe": {"ask_again": True}},
            {"probes": 40_000, "probes, asked again": 8000, "respondents, asked again": 80,
             "evaluation, asked again": pytest.approx(0.2 * 2 * 3 * 140)},
        ),
        (
            {"probe": {"ask_again": True, "score": "likelihood"}},
            {"probes, asked again": None, "evaluation, asked again": pytest.approx(168)},
        ),
        ({"regenerate": {"keep": "majority", "samples": 3}}, {"rationales that vote": 2 * 250 * 3}),
        ({"elicit": {"worked_examples": True}}, {"worked examples": 10}),
        ({"elicit": {"worked_examples": True}, "pair": {"drafts": "d", "scores": "s"}}, {"worked examples": 10}),
        ({"regenerate": {"keep": "agrees_with_target"}}, {"rationales that vote": None}),
    ],
)  # fmt: skip
def test_calls_follow_the_yaml(changes, expected):
    found = counted(block(**changes))
    assert {what: found.get(what) for what in expected} == expected


def test_every_student_is_asked_for_an_arms_strategies():
    arms = [
        {"name": "own", "plan": ["errors", "gap_shares"], "operators": ["reflect"], "select": ["reflected"]},
    ]  # fmt: skip
    students = [{"base_model": f"a/{name}"} for name in "xyz"]
    one, three = (
        counted(block(arms=arms, student=who), seed_questions=10, shots=[1]) for who in (students[0], students)
    )
    asked = ("attempts", "gaps: validation questions, student", "likelihoods for IFD")
    assert [one[what] for what in asked] == [10, 100, 2000]
    assert [three[what] for what in asked] == [30, 300, 6000]
    for what in ("gaps: validation questions, teacher", "reflections"):
        assert one[what] == three[what]


def test_the_check_takes_no_more_than_15_percent_of_the_probes():
    found = counted(block())
    assert sum(calls for what, calls in found.items() if what.startswith("check")) <= 0.15 * found["probes"]
    assert counted(block(), questions=8)["check: rationales"] == 2 * 8


def test_drafts_as_respondents_are_not_asked_again_in_stage_3():
    piloted = counted(block(preference_set={"pilot_drafts": 30}), shots=[])
    assert "respondents" not in piloted
    assert (piloted["pilot"], piloted["probes"]) == (30 * 100, 1000 * 40 - 30 * 40)
    racing = counted(block(preference_set={"pilot_drafts": 30}, probe={"budget": "racing"}), shots=[])
    assert (racing["pilot"], racing["probes"]) == (3000, 20_000)
    likelihoods = block(preference_set={"pilot_drafts": 30}, probe={"score": "likelihood"})
    assert counted(likelihoods, shots=[])["probes"] == 40_000
    assert "pilot" not in counted(block(preference_set={"pilot_drafts": 30, "method": "random"}))


def test_likelihoods_are_read_and_not_written():
    task = work.Sizes(10, 2, 20, 5, [0], 10)
    [probes] = [one for one in totals.works(block(probe={"score": "likelihood"}), [task]) if one.what == "probes"]
    assert (probes.calls, probes.new, probes.most) == (100, 0, 0)


def test_shared_part_is_computed_once_for_a_draft():
    task = work.Sizes(10, 2, 20, 5, [0], 10)
    [probes] = [one for one in totals.works(block(), [task]) if one.what == "probes"]
    of = task.student
    shared, own = of.before + of.question + of.frame + of.rationale, of.question + of.frame
    assert probes.asked == pytest.approx(100 * (shared + own))
    assert probes.computed == pytest.approx(20 * shared + 100 * (own + 8))
    assert probes.hours(Rate(100.0, 10.0, "given")) == pytest.approx((probes.computed / 100 + probes.new / 10) / 3600)


def test_assumed_lengths_are_the_measured_ones():
    tokens = json.loads((ROOT / "benchmarks/lengths/results.json").read_text())["tokens"]
    of = lengths.ASSUMED
    assert (of.question, of.before, of.question_prompt, of.written_question, of.technique) == tuple(
        tokens[name]
        for name in (
            "question", "probe, before the draft", "question prompt", "a written question",
            "technique prompt, without the question",
        )
    )  # fmt: skip
    assert of.frame == tokens["probe, beside the questions"] / 2
    assert of.shot == pytest.approx(of.question + of.frame + of.rationale)
    weighed = json.loads((ROOT / "benchmarks/lengths/results.json").read_text())["bytes"]
    assert disk.Bytes() == disk.Bytes(
        probe=weighed["a probe, without its response"],
        cached=weighed["a cached request, without its text"],
        draft=weighed["a draft"],
        token=weighed["text, a token"],
    )


def test_measured_lengths_add_up_to_real_prompts():
    cfg = yaml.safe_load((ROOT / "yaml_examples/quickstart-cpu.yaml").read_text())
    args = ArteArgs.model_validate(cfg["arte"]).tasks[0]
    task = load_task(args, 42)
    renderer = Renderer(AutoTokenizer.from_pretrained(TAUGHT), "auto")
    assert renderer.style == "chat"

    def tokens(text: str) -> int:
        return len(renderer.tokenizer(renderer.prompt(text), add_special_tokens=False)["input_ids"])

    of = lengths.measured(args, task, renderer, 3, 5)
    shown = [(one.question, one.target) for one in task.seeds[:3]]
    assert of.chat + of.question_prompt == pytest.approx(tokens(question_prompt(args.description, shown, 5)), abs=2)
    asked = [tokens(solve_prompt(args.description, args.answer, one.question)) for one in task.validation]
    mean = sum(asked) / len(asked)
    assert of.chat + of.before + of.frame + of.question == pytest.approx(mean, rel=0.05)


def test_replies_are_no_longer_than_they_may_be():
    cfg = yaml.safe_load((ROOT / "yaml_examples/quickstart-cpu.yaml").read_text())
    cfg["arte"]["student"]["base_model"] = str(TAUGHT)
    args = ArteArgs.model_validate(cfg["arte"])
    found = sizes.sizes_of(args, str(TAUGHT))
    assert (found.read, found.without_tokenizer) == (1, [])
    assert all(one.student.reply == 64 and one.teacher.rationale == 150 for one in found.tasks)
    assert [(one.validation, one.size, one.test) for one in found.tasks] == [(16, 8, 30)]
