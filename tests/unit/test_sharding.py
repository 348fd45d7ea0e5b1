import pytest

from arte_plugin.errors import StageError
from arte_plugin.training.sharding import as_in_one_process, refuse_zero3, switched_off

TRAINING = {
    "learning_rate": 1e-6,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "batch_size": 8,
    "dataloader_num_workers": 1,
}


def test_a_training_in_one_process_is_left_as_it_is():
    assert as_in_one_process(TRAINING, 1) == TRAINING


@pytest.mark.parametrize("sharding", [{"deepspeed": {"bf16": {}}}, {"fsdp_version": 2, "fsdp_config": {}}, {}])
def test_more_processes_make_the_same_training(sharding):
    # What Axolotl makes of the same YAML in eight processes.
    eight = {**TRAINING, "batch_size": 64, "dataloader_num_workers": 8, **sharding}
    assert as_in_one_process(eight, 8) == TRAINING


def test_another_batch_is_another_training():
    assert as_in_one_process({**TRAINING, "micro_batch_size": 1, "batch_size": 4}, 1) != TRAINING


def test_a_number_of_workers_that_was_asked_for_counts():
    assert as_in_one_process({**TRAINING, "dataloader_num_workers": 3}, 8)["dataloader_num_workers"] == 3


def test_only_the_keys_that_are_there_are_switched_off():
    assert switched_off({"fsdp_config": {}, "bf16": True}) == {"fsdp_config": None}
    assert switched_off({"bf16": True}) == {}


def test_zero3_can_not_generate(monkeypatch):
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    refuse_zero3()
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    with pytest.raises(StageError, match="arte align"):
        refuse_zero3()
