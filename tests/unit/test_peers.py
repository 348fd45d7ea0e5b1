"""Several ranks on a machine without a GPU, with the torch for CUDA that pip installs."""

import copy

import pytest
import torch
from axolotl.utils import environment

from arte_plugin.plugin import ArtePlugin

CONFIG = {
    "base_model": "teacher",
    "rl": "dpo",
    "plugins": ["arte_plugin.ArtePlugin"],
    "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
    "arte": {"student": {"base_model": "student"}, "tasks": [{"preset": "bbh/navigate"}]},
}


@pytest.fixture
def looks(monkeypatch):
    """A machine as told, with two ranks; how often CUDA was asked for peer access."""
    looks = []

    def look(*devices):
        looks.append(devices)
        if not torch.cuda.is_available():
            raise RuntimeError("Found no NVIDIA driver on your system")
        return True

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", look)
    monkeypatch.setattr(environment, "check_cuda_p2p_support", environment.check_cuda_p2p_support)
    return looks


def test_without_a_driver_there_is_no_look_at_peers(looks, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="no NVIDIA driver"):
        environment.check_cuda_p2p_support()
    ArtePlugin().register(copy.deepcopy(CONFIG))
    assert environment.check_cuda_p2p_support() and len(looks) == 1


def test_with_devices_axolotl_looks_as_ever(looks, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ArtePlugin().register(copy.deepcopy(CONFIG))
    assert environment.check_cuda_p2p_support() and len(looks) == 1
