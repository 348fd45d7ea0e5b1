"""What is told of a GPU's memory, with numbers in the place of a GPU."""

import json

import pytest
import torch

from arte_plugin.models import memory
from arte_plugin.models.memory import TOLERANCE, Meter, check_given_back, kept, logged_peaks
from arte_plugin.run.manifest import Count, Manifest
from arte_plugin.show.tables import stage_table

MB = 10**6


class Device:
    """Two GPUs' counts, as PyTorch keeps them."""

    def __init__(self, monkeypatch):
        self.now, self.peak = [5 * MB, 0], [900 * MB, 0]
        #: What lies beside PyTorch's own: contexts, graphs, another library's pages.
        self.beside = [300 * MB, 300 * MB]
        for name, answer in {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 2,
            "empty_cache": lambda: None,
            "memory_allocated": lambda device: self.now[device],
            "memory_reserved": lambda device: 2 * self.now[device],
            "max_memory_allocated": lambda device: self.peak[device],
            "max_memory_reserved": lambda device: 2 * self.peak[device],
            "mem_get_info": lambda device: (80_000 * MB - 2 * self.now[device] - self.beside[device], 80_000 * MB),
            "reset_peak_memory_stats": self.reset,
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)

    def reset(self, device=None):
        self.peak[device or 0] = self.now[device or 0]

    def take(self, device, bytes_):
        self.now[device] += bytes_
        self.peak[device] = max(self.peak[device], self.now[device])


@pytest.fixture
def device(monkeypatch):
    return Device(monkeypatch)


def test_a_peak_is_kept_where_others_start_the_counts_anew(device):
    meter = Meter()
    device.take(1, 700 * MB)
    device.take(1, -600 * MB)
    torch.cuda.reset_peak_memory_stats(1)
    assert device.peak[1] == 100 * MB
    device.take(1, 200 * MB)
    device.take(1, -300 * MB)
    used = meter.stop()
    # Of the GPU that had most, not of what went before the stage (900 MB).
    assert used == {
        "allocated": 700 * MB, "reserved": 1400 * MB, "before": 10 * MB, "after": 10 * MB,
        "device_before": 610 * MB, "device_after": 610 * MB,
    }  # fmt: skip
    assert torch.cuda.reset_peak_memory_stats == device.reset
    assert meter.stop() == {}


def test_what_pytorch_does_not_count_is_seen(device):
    meter = Meter()
    device.take(0, 100 * MB)
    device.take(0, -100 * MB)
    device.beside[1] += 700 * MB
    used = meter.stop()
    assert kept(used) == 0
    assert kept(used, on_device=True) == 700 * MB


def test_asking_does_not_start_cuda(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.delattr(torch.cuda, "mem_get_info")
    meter = Meter()
    assert (meter._before, meter._device_before) == (0, 0)
    meter.stop()


def test_a_stage_without_a_model_has_no_figures(device):
    assert Meter().stop() == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nothing_is_measured_without_a_gpu():
    assert Meter().stop() == {}


def test_what_is_not_given_back_is_told_of(device, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(memory.LOG, "warning", lambda text, *values: said.append(text % values))
    for left, warned in ((TOLERANCE // 2 - MB, False), (TOLERANCE, True)):
        meter = Meter()
        device.take(0, left)
        used = meter.stop()
        assert kept(used) == 2 * left
        said.clear()
        check_given_back("elicit", used)
        assert [text[: text.index(" MB")] for text in said] == ["elicit has not given back 400"] * warned


def test_the_peaks_of_a_child_come_from_its_log(tmp_path):
    log = tmp_path / "train.log"
    assert logged_peaks(log) == {}
    line = "{{'loss': '0.4', 'memory/max_active (GiB)': '{0}', 'memory/max_allocated (GiB)': '{0}', " \
           "'memory/device_reserved (GiB)': '{1}'}}\n"  # fmt: skip
    log.write_text(line.format(0, 0))
    assert logged_peaks(log) == {}
    log.write_text(line.format(1.5, 2) + line.format("0.25", "2.5"))
    assert logged_peaks(log) == {"allocated": 3 * 2**29, "reserved": 5 * 2**29}


def test_the_manifest_tells_of_memory_only_where_there_is_any(tmp_path):
    manifest = Manifest(tmp_path / "manifest.json")
    manifest.record("elicit", {}, [Count("drafts", 4, 4)], {}, 1.0)
    entered = json.loads(manifest.path.read_text())["stages"]["elicit"]
    # As older versions wrote it, and read it.
    assert not {"memory", "loaded"} & entered.keys()
    assert manifest.stages()["elicit"].memory == {}
    assert "memory" not in stage_table(manifest.stages(), ["elicit", "probe"])

    manifest.record(
        "probe", {}, [Count("probes", 9, 9), Count("scores", 4, 4)], {}, 1.0, memory={"allocated": 3 * 10**9}
    )
    assert manifest.stages()["probe"].memory == {"allocated": 3 * 10**9}
    head, _, *lines = stage_table(manifest.stages(), ["elicit", "probe", "pair"]).splitlines()
    place = head.index("memory")
    assert [line[place:].strip() for line in lines] == ["", "3.0 GB", "", ""]
