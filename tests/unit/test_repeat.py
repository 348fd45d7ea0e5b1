"""`pair.repeat`: rows that stand there several times have, in a real trainer, the loss of weighted pairs."""

import math

import pytest

from arte_plugin.config.pair import RepeatArgs
from arte_plugin.rows import PreferencePair, write_rows
from arte_plugin.stages.before_after import some_trained
from arte_plugin.stages.repeat import note, repeated, times
from arte_plugin.strategies.pairs import preference_pairs
from tests.tiny import tiny_model
from tests.trl_loss import losses, trainer


def one(name, gap):
    return PreferencePair(name, "rationale", "sums", "Add.", "a", "b", 0.2 + gap, 0.2, f"{name}a", f"{name}b")


@pytest.mark.parametrize(("gap", "expected"), [(0.01, 1), (0.15, 1), (0.16, 2), (0.3, 2), (0.31, 3), (0.8, 3)])
def test_a_pair_stands_there_once_a_step_of_its_gap(gap, expected):
    assert times(one("r", gap), RepeatArgs(step=0.15, most=3)) == expected


def test_copies_are_rows_of_their_own_and_count_as_one_pair():
    pairs = [one("x", 0.1), one("y", 0.4)]
    rows = repeated(pairs, RepeatArgs())
    assert [row.pair_id for row in rows] == ["x", "y", "y#2", "y#3"]
    assert [row.is_copy for row in rows] == [False, False, True, True]
    assert some_trained(rows, 1) == pairs
    assert note(pairs, RepeatArgs()) == "1 once, 1 3 times"
    assert repeated(pairs, None) == pairs


@pytest.mark.parametrize("settings", [None, RepeatArgs()])
def test_rows_are_read_with_copies_and_without(settings, tmp_path):
    """As Axolotl maps them: a column that is in no row can't be removed."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    rows = repeated([one("x", 0.1), one("y", 0.4)], settings)
    write_rows(tmp_path / "pairs.jsonl", rows)
    dataset = load_dataset("json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path / "model"))
    transform, how = preference_pairs({})
    mapped = dataset.map(transform, fn_kwargs={"tokenizer": tokenizer}, **how)
    assert set(mapped.column_names) == {"prompt", "chosen", "rejected", "rendered"}
    assert len(mapped) == len(rows)


def test_the_loss_of_the_rows_is_the_weighted_loss_of_the_pairs(tmp_path):
    """HelpSteer2-Preference, scaled Bradley-Terry: sum of m · -log σ(β · margin), here over the sum of m."""
    pairs = [one("x", 0.1), one("y", 0.2), one("z", 0.5)]
    texts = {"x": (" 2 and 2", " 5"), "y": (" 4", " I see"), "z": (" seven", " eight and more")}
    rows = repeated(pairs, RepeatArgs(step=0.15, most=3))
    assert [row.pair_id.partition("#")[0] for row in rows] == ["x", *["y"] * 2, *["z"] * 3]
    made = trainer(tmp_path, [("Add.", *texts[row.pair_id.partition("#")[0]]) for row in rows], beta=0.5)
    loss, found = losses(made)
    # Of the trainer's own numbers for each pair once: mean over rows = sum(m · loss) / sum(m).
    each = dict(zip((row.pair_id for row in rows), found, strict=True))
    weights = {"x": 1, "y": 2, "z": 3}
    terms = {key: -math.log(1 / (1 + math.exp(-0.5 * each[key].margin))) for key in weights}
    expected = sum(weights[key] * terms[key] for key in weights) / sum(weights.values())
    assert loss == pytest.approx(expected, rel=1e-5)
    assert loss != pytest.approx(sum(terms.values()) / 3, rel=1e-3)
