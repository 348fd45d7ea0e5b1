"""The plain way of attention on a CPU, by torch's flash attention, held against matmuls."""

import pytest

torch = pytest.importorskip("torch")

from arte_plugin.engines import plain_attention  # noqa: E402
from tests.played_rows import mistral, off, played  # noqa: E402


@pytest.fixture
def flashed(monkeypatch):
    """How often torch's flash attention was asked."""
    seen = []
    flash = plain_attention._flash
    monkeypatch.setattr(plain_attention, "_flash", lambda *given: (seen.append(1), flash(*given))[1])
    return seen


def in_matmuls(monkeypatch, model, count):
    with monkeypatch.context() as patch:
        patch.setattr(plain_attention, "_can_flash", lambda *given: False)
        return played(model, None, count)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_flash_comes_to_what_matmuls_come_to(monkeypatch, flashed, count, kv_heads):
    model = mistral(None, kv_heads)
    found = played(model, None, count)
    asked = len(flashed)
    assert asked > 20
    assert off(found, in_matmuls(monkeypatch, model, count)) < 1e-5
    assert len(flashed) == asked


@pytest.mark.parametrize("window", [1, 7, 24, 60])
def test_in_a_window_too(monkeypatch, flashed, window):
    """Those that hide all of a prefix among them."""
    model = mistral(window)
    assert off(played(model, None, 3), in_matmuls(monkeypatch, model, 3)) < 1e-5
    assert flashed


def test_capped_scores_and_half_precision_are_left_to_matmuls():
    queries = torch.randn(1, 2, 3, 8)
    assert plain_attention._can_flash(queries, queries, None)
    assert not plain_attention._can_flash(queries, queries, 30.0)
    assert not plain_attention._can_flash(queries.bfloat16(), queries.bfloat16(), None)
    assert not plain_attention._can_flash(queries, torch.randn(1, 2, 5, 16), None)
