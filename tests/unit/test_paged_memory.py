"""States of bitsandbytes' paged optimizers go when the training is over: without a GPU, with a stand-in for CUDA."""

import pytest
import torch
from bitsandbytes import functional, optim

from arte_plugin.models import paged_memory
from arte_plugin.plugin import ArtePlugin


@pytest.fixture
def freed(monkeypatch):
    """What was freed; pages are ordinary memory here, entered by bitsandbytes' own code."""
    freed = []
    monkeypatch.setattr(paged_memory, "_free", lambda place: freed.append(place) is None)
    monkeypatch.setattr(functional, "get_paged", lambda *shape, dtype, device: torch.empty(shape, dtype=dtype))
    monkeypatch.setattr(functional, "fill", lambda tensor, value: tensor.fill_(value))
    monkeypatch.setattr(functional.GlobalPageManager.get_instance(), "paged_tensors", [])
    return freed


def trained():
    """A paged AdamW with the states of one weight, as its first step makes them."""
    weight = torch.nn.Parameter(torch.empty(400, 500, device="meta"))
    optimizer = optim.PagedAdamW32bit([weight])
    optimizer.state[weight] = {name: optimizer.get_state_buffer(weight) for name in ("state1", "state2")}
    return optimizer


def test_states_that_nobody_holds_are_freed(freed):
    optimizer = trained()
    pages = functional.GlobalPageManager.get_instance().paged_tensors
    places = {one.data_ptr() for one in pages}
    assert len(places) == 2
    assert paged_memory.give_back() == 0 and len(pages) == 2 and freed == []  # It may still write there.
    del optimizer
    assert paged_memory.give_back() == 2 * 4 * 400 * 500
    assert set(freed) == places and pages == []
    assert paged_memory.give_back() == 0 and len(freed) == 2


def test_they_go_before_the_stages_behind_the_training(freed, monkeypatch):
    trained()
    plugin = ArtePlugin()
    plugin._run, plugin._trained = object(), 2

    def what_comes_next():
        assert len(freed) == 2
        raise ZeroDivisionError

    monkeypatch.setattr("arte_plugin.plugin.memory.release", what_comes_next)
    with pytest.raises(ZeroDivisionError):
        plugin.post_train_unload({})


def test_without_the_runtime_nothing_is_freed(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "0.0")
    assert paged_memory._free(0) is False
