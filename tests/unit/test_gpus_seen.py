"""What is told of GPUs before one is used: a machine with two of them, of which this process starts none."""

import pytest
import torch

from arte_plugin.config.student import StudentArgs
from arte_plugin.models import gpus_seen
from arte_plugin.models.auto_engine import Machine
from arte_plugin.models.student import student_dtype
from arte_plugin.plan.make import probing_dtype
from arte_plugin.training import child, precision

STUDENT = StudentArgs(base_model="org/student")


@pytest.fixture
def machine(monkeypatch):
    """Two GPUs; `machine(program)` is what the child runs. To start CUDA here is an error, and counted."""
    started = []

    def start():
        started.append("CUDA")
        raise RuntimeError("CUDA has been started")

    by_a_child = gpus_seen._by_a_child
    by_a_child.cache_clear()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", start)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield lambda program: monkeypatch.setattr(gpus_seen, "_LOOK", program)
    by_a_child.cache_clear()
    assert started == []


def test_an_engine_is_chosen_without_starting_cuda_here(machine):
    machine("import warnings; print('a library says something'); print('[[80, 40], true, true]')")
    found = Machine.here()
    assert (found.gpus, found.memory, found.numbered) == (2, 40, True)
    assert student_dtype(STUDENT) == "bfloat16"


def test_so_it_is_where_they_have_no_bfloat16(machine):
    machine("print('[[80, 40], false, false]')")
    assert student_dtype(STUDENT) == "float32"


@pytest.mark.parametrize(("has", "dtype"), [("true", "bfloat16"), ("false", "float32")])
@pytest.mark.parametrize("cfg", [{"bf16": False}, {"bf16": True}])
def test_a_plan_on_such_a_machine_has_the_precision_of_its_run(machine, has, dtype, cfg):
    machine(f"print('[[80, 40], {has}, {has}]')")
    assert probing_dtype(STUDENT, cfg) == student_dtype(STUDENT) == dtype
    assert probing_dtype(StudentArgs(base_model="org/student", dtype="float16"), cfg) == "float16"


@pytest.mark.parametrize("computes", [True, False])
def test_a_training_s_precision_is_decided_without_starting_cuda_here(computes, machine):
    """By what the GPUs compute in themselves: emulated bfloat16 is enough to write in, and nothing to train in."""
    machine(f"print('[[80, 40], true, {str(computes).lower()}]')")
    assert child.has_bf16() == computes
    assert precision._memory() == 40


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "print('nothing of use')", ""])
def test_where_the_child_can_t_tell_this_process_looks_itself(program, machine, monkeypatch):
    machine(program)
    here = gpus_seen.Seen((80,), True, False)
    monkeypatch.setattr(gpus_seen, "_here", lambda: here)
    assert gpus_seen.seen() == here


def test_once_cuda_is_started_no_child_is(machine, monkeypatch):
    machine("raise SystemExit('no child')")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(gpus_seen, "_by_a_child", lambda: pytest.fail("a child was started"))
    here = gpus_seen.Seen((80,), True, False)
    monkeypatch.setattr(gpus_seen, "_here", lambda: here)
    assert gpus_seen.seen() == here


def test_what_the_child_runs_is_a_program_that_tells_what_there_is():
    """Here, that is what this process finds as well."""
    gpus_seen._by_a_child.cache_clear()
    assert gpus_seen._by_a_child() == gpus_seen._here()
    gpus_seen._by_a_child.cache_clear()
