"""A fine-tuning without the logits of untrained tokens: the same loss and the same gradients, with fewer logits."""

import copy
import gc
import sys
from types import ModuleType

import pytest

from arte_plugin.training import child
from arte_plugin.training.trained_tokens import skip_other_logits, with_trained_only
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path_factory.mktemp("model")))


def batch():
    """Two rows whose replies begin and end in different places, the shorter one padded."""
    import torch

    ids = torch.randint(0, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    labels = torch.full_like(ids, -100)
    labels[0, 7:] = ids[0, 7:]
    labels[1, 5:8] = ids[1, 5:8]
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def losses(model, inputs):
    import torch

    model = copy.deepcopy(model)
    out = model(**inputs, num_items_in_batch=torch.tensor(8))
    out.loss.backward()
    return out, {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("adapter", [False, True])
def test_loss_and_gradients_are_the_same_with_fewer_logits(model, adapter):
    import torch

    if adapter:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules="all-linear"))
    inputs = batch()
    expected, gradients = losses(model, inputs)
    found, others = losses(model, with_trained_only(model, inputs))
    # Token 4 foretells the first of the second row's reply, token 10 the last of the first row's.
    assert expected.logits.shape[:2] == (2, 12) and found.logits.shape[:2] == (2, 7)
    torch.testing.assert_close(found.logits, expected.logits[:, 4:11])
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(others, gradients)


def test_a_batch_without_trained_tokens_stays_as_it_is(model):
    import torch

    inputs = batch()
    inputs["labels"] = torch.full_like(inputs["labels"], -100)
    assert with_trained_only(model, inputs) is inputs
    assert with_trained_only(model, {"input_ids": inputs["input_ids"]}).keys() == {"input_ids"}


def test_a_model_with_a_loss_of_its_own_is_left_alone(model):
    class Other(type(model)):
        def forward(self, input_ids, labels=None, logits_to_keep=0, **more):
            return self.loss_function(input_ids, labels, **more)

    inputs, other = batch(), copy.deepcopy(model)
    other.__class__ = Other
    assert with_trained_only(other, inputs) is inputs
    another = copy.deepcopy(model)
    another.loss_function = lambda *_, **__: None
    assert with_trained_only(another, inputs) is inputs


def test_trainer_ends_with_the_same_weights(model, tmp_path, monkeypatch):
    import torch
    from transformers import Trainer, TrainingArguments

    rows = [{key: one[row] for key, one in batch().items()} for row in (0, 1) for _ in range(2)]

    def trained():
        mine, counts = copy.deepcopy(model), []
        mine.lm_head.register_forward_hook(lambda module, given, out: counts.append(out.shape[1]))
        settings = TrainingArguments(
            str(tmp_path), use_cpu=True, max_steps=3, per_device_train_batch_size=2, learning_rate=1e-3,
            report_to=[], save_strategy="no", disable_tqdm=True, seed=0,
        )  # fmt: skip
        Trainer(mine, settings, train_dataset=rows).train()
        return mine.state_dict(), counts

    expected, counts = trained()
    monkeypatch.setattr(Trainer, "compute_loss", Trainer.compute_loss)  # Put back at the end.
    skip_other_logits()
    found, fewer = trained()
    assert counts == [12] * 3 and max(fewer) <= 7
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found["lm_head.weight"], model.lm_head.weight)


def test_the_students_training_leaves_them_out(monkeypatch, tmp_path):
    from transformers import Trainer

    stock, seen = Trainer.compute_loss, []
    main, train = ModuleType("axolotl.cli.main"), ModuleType("axolotl.cli.train")
    main.main = lambda: seen.append(Trainer.compute_loss is not stock)
    monkeypatch.setitem(sys.modules, "axolotl.cli.main", main)
    monkeypatch.setitem(sys.modules, "axolotl.cli.train", train)
    monkeypatch.setattr(Trainer, "compute_loss", stock)
    monkeypatch.setattr(child, "gpus", lambda: 0)

    def run(command, **_):
        exec(command[command.index("-c") + 1], {})
        return type("Ended", (), {"returncode": 0})

    monkeypatch.setattr(child.subprocess, "run", run)
    with (tmp_path / "log").open("wb") as log:
        assert child.axolotl(log, "train", "student.yaml") == 0
    gc.unfreeze()
    assert seen == [True]
