"""Runs that went wrong without an error, each in its own way: the diagnostics say which."""

from dataclasses import replace

import pytest

from arte_plugin.config.plugs import chosen
from arte_plugin.plugs import Evidence
from arte_plugin.rows import Result, wilson
from tests.diagnosed import Offline, a_draft, a_pair, a_task, an_example

WORDS = ["cat", "dog", "cow", "hen", "bee", "ant", "fox", "owl", "elk", "emu", "eel", "ape", "bat", "boa", "cod", "doe"]
WAYS = ["shows", "tells", "has", "is"]


def target(i):
    return "Yes" if i % 2 else "No"


def rationale(i, answer, way):
    return f"the {WORDS[i]} {way} of {WORDS[i - 1]} and {WORDS[i - 2]}: <ans>{answer}</ans>"


def sound():
    """A run in which nothing is wrong: examples like drafts, right by their own claims, pairs of all lengths."""
    drafts = [
        a_draft(f"is a {WORDS[i]} so?", rationale(i, target(i), way), way, target(i))
        for i in range(16) for way in WAYS
    ]  # fmt: skip
    examples = [
        an_example(f"does a {WORDS[i]} do?", rationale(i, target(i), WAYS[i % 4]), target(i)) for i in range(16)
    ]
    sides = [(drafts[4 * i + i % 3], drafts[4 * i + 3])[:: 1 if i % 2 else -1] for i in range(16)]
    pairs = [a_pair(one.rationale, other.rationale, (one.draft_id, other.draft_id)) for one, other in sides]
    return Evidence(drafts=drafts, examples={"arte": examples}, pairs=pairs)


def results(base=(20, 4), arte=(36, 2)):
    """Right and unparsed of 40."""
    return [
        Result("sums", "", arm, "small", 0, 40, right, lost, right / 40, *wilson(right, 40))
        for arm, (right, lost) in (("base", base), ("arte", arte))
    ]


def table(name, known, tested=None):
    lines = (
        chosen("diagnostics", name).made().table([a_task(answer="boolean")], {"sums": known}, tested or [], Offline())
    )
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def examples_read(known):
    [line] = [line for line in table("format", known) if line["replies"] == "examples"]
    return line["readable"].split(" (")[0], line["right when readable"].split(" (")[0]


def told_apart(known, of, measure):
    [line] = [one for one in table("diversity", known) if (one["of"], one["measure"]) == (of, measure)]
    return float(line["p"]) < 0.05


def broken(change):
    known = sound()
    return replace(known, examples={"arte": [change(i, row) for i, row in enumerate(known.examples["arte"])]})


MEASURES = [("questions", "likeness"), ("rationales", "distinct-2"), ("rationales", "near duplicates"),
            ("questions", "entropy of targets, bits")]  # fmt: skip


def test_a_sound_run_is_not_accused():
    assert examples_read(sound()) == ("100.0 %", "100.0 %")
    assert not any(told_apart(sound(), *one) for one in MEASURES)
    [line] = table("length", sound())
    assert line["pairs"] == "16" and float(line["p"]) > 0.05


def test_all_rationales_the_same():
    known = broken(lambda i, row: replace(row, rationale=f"it is clear: <ans>{target(i)}</ans>"))
    assert told_apart(known, "rationales", "near duplicates") and told_apart(known, "rationales", "distinct-2")
    assert not told_apart(known, "questions", "likeness")


def test_one_answer_to_every_question():
    known = broken(lambda i, row: replace(row, target="Yes", rationale=rationale(i, "Yes", "does")))
    assert told_apart(known, "questions", "entropy of targets, bits")
    # By their own claims they are right, which one answer is, too.
    [line] = [line for line in table("format", known) if line["replies"] == "examples"]
    assert line["right by chance"] == "100.0 %"


@pytest.mark.parametrize("tail", ["", "<ans></ans>", "the answer is Yes", "<ans>Yes</ans> or not"])
def test_answers_that_no_student_could_read(tail):
    known = broken(lambda i, row: replace(row, rationale=row.rationale.partition("<ans>")[0] + tail))
    assert examples_read(known) == ("0.0 %", "-")


def test_targets_shuffled_among_the_questions():
    # A quarter turn, as a bug in a join would do it: half of the targets are another question's.
    known = broken(lambda i, row: replace(row, target=target(i if i % 4 < 2 else i + 1)))
    assert examples_read(known) == ("100.0 %", "50.0 %")
    assert not told_apart(known, "questions", "entropy of targets, bits")


def test_a_student_that_learnt_the_form_alone():
    # 10 of 20 readable ones right, and 20 of 40.
    *_, line = table("format", Evidence(), results(base=(10, 20), arte=(20, 0)))
    assert line["readable"].startswith("+25.0 (+") and line["right when readable"].startswith("+0.0 (-")
    *_, line = table("format", Evidence(), results(base=(10, 0), arte=(20, 0)))
    assert line["readable"].startswith("+0.0 (-") and line["right when readable"].startswith("+25.0 (+")


def test_pairs_that_prefer_the_longer_text():
    known = sound()
    longer = [replace(pair, chosen=pair.chosen + " and so on" * (1 + i)) for i, pair in enumerate(known.pairs)]
    [line] = table("length", replace(known, pairs=longer))
    assert line["p"] == "< 0.001" and line["chosen is longer"] == "100.0 % of 16"


def test_pairs_the_wrong_way_round():
    """Chosen and rejected swapped: what is rejected agrees with everything else that was said."""
    known = sound()
    wrong = {pair.rejected_id for pair in known.pairs}
    drafts = [replace(row, answer="No" if row.target == "Yes" else "Yes") if row.draft_id in wrong else row
              for row in known.drafts]  # fmt: skip
    swapped = [replace(pair, chosen_id=pair.rejected_id, rejected_id=pair.chosen_id) for pair in known.pairs]
    line, verdict = table("hacking", replace(known, drafts=drafts, pairs=swapped))
    assert (line["before"], line["after"]) == ("100.0 %", "0.0 %")
    assert verdict["measure"] == "in all: the alignment is worse by: rationales rejected, and chosen over them"
    line, verdict = table("hacking", replace(known, drafts=drafts))
    assert (line["before"], line["after"]) == ("0.0 %", "100.0 %") and "better by" in verdict["measure"]
