"""Diversity of what students learn from, beside that of what the teacher wrote before."""

import math
import random

import pytest

from arte_plugin.diagnostics.diversity import Diversity, DiversitySettings, compared, entropies
from arte_plugin.plugs import Evidence
from tests.diagnosed import Offline, a_draft, a_task, an_example, by_head, questions

ANIMALS = ["cat", "dog", "cow", "hen", "bee", "ant", "fox", "owl", "elk", "emu"]
UNLIKE = [f"is the {one} a {one}ish {one}let" for one in ANIMALS]


def table(examples, drafts=(), seeds=None, **settings):
    known = Evidence(drafts=drafts, examples={"arte": examples})
    task = a_task(**({"seeds": seeds} if seeds else {}))
    lines = Diversity(DiversitySettings(**settings)).table([task], {"sums": known}, [], Offline())
    return {(line["of"], line["measure"]): line for line in by_head(lines)}


def test_measures_by_hand():
    found = compared(["a b c", "a b d", "x y z"], ["p q r", "s t u", "v w x"], 2, random.Random(1))
    # ab bc ab bd xy yz: five of six.
    assert found["distinct-2"].here == pytest.approx(5 / 6) and found["distinct-2"].there == 1
    # Runs of three of ^abc$ and ^abd$: ^ab is one of five; nothing is like the third.
    assert found["likeness"].here == pytest.approx((0.2 + 0.2 + 0) / 3) and found["likeness"].there == 0
    assert found["near duplicates"].here == 0


def test_the_same_text_over_and_over_and_nothing_alike():
    found = compared(["a b c d"] * 10, UNLIKE, 1, random.Random(1))
    assert found["likeness"].here == found["near duplicates"].here == 1
    assert found["distinct-1"].here == pytest.approx(4 / 40)
    assert found["near duplicates"].p == found["distinct-1"].p == pytest.approx(1 / 200)
    assert found["distinct-1"].high < found["distinct-1"].there - found["distinct-1"].here


def test_entropy_of_targets():
    same = entropies(["True"] * 8, ["True", "False"] * 4, random.Random(1))
    assert (same.here, same.there) == (0, 1)
    skewed = entropies(["True"] * 3 + ["False"], list("abcd"), random.Random(1))
    assert skewed.here == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))) and skewed.there == 2


def test_a_teacher_that_writes_one_rationale_only_is_seen():
    drafts = [a_draft(f"{one}?", f"{text} so <ans>2</ans>") for one, text in zip(ANIMALS, UNLIKE, strict=True)]
    broken = table([an_example(f"{one}!", "it is two. <ans>2</ans>") for one in ANIMALS], drafts)
    assert broken["rationales", "near duplicates"]["here"] == "1.00"
    assert broken["rationales", "near duplicates"]["as many drafts"] == "0.00"
    assert broken["rationales", "near duplicates"]["p"] == "0.005"
    assert broken["rationales", "near duplicates"]["n"] == "10"
    sound = table(
        [an_example(f"{one}!", f"{text} now <ans>2</ans>") for one, text in zip(ANIMALS, UNLIKE, strict=True)], drafts
    )
    assert float(sound["rationales", "near duplicates"]["p"]) > 0.05
    assert float(sound["rationales", "distinct-2"]["p"]) > 0.05


def test_one_draft_of_each_question_is_held_against_an_arm():
    drafts = [a_draft(f"{one}?", f"{one} {way}", way) for one in ANIMALS[:4] for way in ("split", "rule_first")]
    found = table([an_example(f"{one}!") for one in ANIMALS], drafts)
    assert found["rationales", "distinct-2"]["n"] == found["questions", "distinct-2"]["n"] == "4"


def test_seeds_have_questions_only_and_too_few_are_not_compared():
    found = table([an_example(f"{one}!") for one in ANIMALS], against="seeds")
    assert {of for of, _ in found} == {"questions"} and found["questions", "likeness"]["as many seeds"] != "-"
    few = table([an_example("a?"), an_example("b?")], against="seeds")
    assert few == {("questions", "too few to compare: 2 and 3"): few["questions", "too few to compare: 2 and 3"]}


def test_the_same_run_shows_the_same_table():
    drafts = [a_draft(f"{one}?", text) for one, text in zip(ANIMALS, UNLIKE, strict=True)]
    examples = [an_example(f"{one}!", text) for one, text in zip(ANIMALS, UNLIKE, strict=True)]
    assert table(examples, drafts) == table(examples, drafts)


def test_texts_at_most_are_compared():
    seeds = questions(30, split="seed")
    found = table([an_example(f"{i} or {i + 2}") for i in range(40)], seeds=seeds, against="seeds", texts=12)
    assert found["questions", "likeness"]["n"] == "12"
