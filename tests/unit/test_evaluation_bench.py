"""The benchmark that holds our engine against lm-eval's own model, on a tiny student and a few questions."""

import json

import pytest

pytest.importorskip("lm_eval")

from benchmarks.evaluation.run import main
from tests.taught import TAUGHT


def test_both_are_timed_and_judge_alike(tmp_path):
    out = tmp_path / "figures.json"
    assert main(["--model", str(TAUGHT), "--turns", "1", "--questions", "3", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["machine"]["versions"]["lm_eval"] and found["machine"]["cores"]
    assert found["works"]["demo"]["other_outcomes"] == 0
    assert found["works"]["choice"]["questions"] == 3 and found["works"]["choice"]["largest_difference"] < 1e-4
    assert all(len(one) == 1 for work in found["works"].values() for one in work["seconds"].values())
