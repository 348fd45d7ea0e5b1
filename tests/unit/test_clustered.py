"""Intervals of answers that are not independent of one another."""

import numpy as np
import pytest

from arte_plugin.diagnostics.clustered import ratio, share
from arte_plugin.rows import wilson
from arte_plugin.stages.liking import paired


def cells(table):
    return [(f"d{i}", f"q{k}", float(value)) for i, row in enumerate(table) for k, value in enumerate(row)]


def test_it_is_the_interval_of_a_difference_from_nothing():
    table = np.random.default_rng(1).integers(0, 2, (12, 7))
    found, other = share(cells(table)), paired([(np.zeros((12, 7)), table)])
    assert (found.share, found.low, found.high) == pytest.approx((other.after, other.low, other.high))


def test_drafts_that_all_fail_on_the_same_questions_are_no_320_answers():
    table = np.tile([1, 1, 1, 1, 1, 1, 0, 0], (40, 1))
    found, (low, high) = share(cells(table)), wilson(240, 320)
    assert found.share == 0.75 and found.low < low - 0.2 and found.high == 1.0 > high


def test_a_share_among_some():
    right = [("a", "x", 1.0), ("a", "y", 0.0), ("b", "x", 0.0)]
    readable = [("a", "x", 1.0), ("a", "y", 1.0), ("b", "x", 0.0)]
    assert ratio(right, readable).share == 0.5
    assert ratio(right, [(draft, question, 0.0) for draft, question, _ in readable]) is None
    assert share([]) is None


def test_what_is_always_so_is_not_known_for_sure():
    found = share(cells(np.ones((10, 10))))
    assert found.high == 1.0 and 0.9 < found.low < 1.0
