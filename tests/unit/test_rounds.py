"""Rounds: what is refused, and what their table shows. tests/e2e/test_rounds.py runs them."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from arte_plugin.errors import ConfigError
from arte_plugin.rounds import _as_started, _merge_student, round_lines
from arte_plugin.stages.sft import TrainedStudent
from tests.taught import TAUGHT
from tests.unit.test_students import check

STUDENT = {"base_model": "x"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"round": 2}, "`round: 2` is more than `rounds: 1`"),
        ({"rounds": 2, "arms": ["question_only"]}, "the student of the arm `arte`, which `arms` leaves out"),
        ({"rounds": 2, "from_run": "somewhere"}, "and `from_run` takes the place of that"),
        ({"rounds": 2, "pair": {"drafts": "d", "scores": "s"}}, "and `pair.drafts` takes the place of that"),
        (
            {"from_run": "somewhere", "pair": {"drafts": "d", "scores": "s"}},
            "`from_run` takes the place of",
        ),
        ({"rounds": 0}, "arte.rounds: Input should be greater than or equal to 1"),
        ({"rounds": 2, "held_out": 1}, "arte.held_out: Input should be less than 1"),
    ],
)
def test_keys_that_do_not_go_together(keys, said):
    with pytest.raises(ConfigError, match=said) as error:
        check(STUDENT, **keys)
    assert len(str(error.value).splitlines()) == 2


def test_a_later_round_is_run_with_the_options_of_the_command_line():
    config = {"learning_rate": 1e-4, "bf16": "auto", "base_model": "x", "arte": {"rounds": 2}, "lora_r": 8}
    now = {"learning_rate": 1e-5, "bf16": True, "base_model": "x", "arte": {}, "lora_r": 8, "unsaid": 1}
    assert _as_started(config, now) == {**config, "learning_rate": 1e-5}


def test_every_round_asks_with_seeds_of_its_own():
    rounds = [check(STUDENT, rounds=3, round=number).arte for number in (1, 2, 3)]
    assert rounds[0].sampling_seed == rounds[0].seed
    assert len({one.sampling_seed for one in rounds}) == 3


def test_table_shows_both_accuracies_of_each_round():
    row = {
        "round": 2, "folder": "out/round-2", "pairs": 9,
        "held_out_before": 0.25, "held_out_after": 0.5, "test_before": 0.3, "test_after": 0.4,
    }  # fmt: skip
    assert round_lines([row])[1] == ["2", "out/round-2", "9", "25.0 %", "50.0 %", "30.0 %", "40.0 %"]


def test_a_student_with_an_adapter_goes_on_as_one_model_in_float32(tmp_path):
    torch.manual_seed(0)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(TAUGHT), LoraConfig(target_modules=["q_proj"]))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(TAUGHT).save_pretrained(tmp_path / "adapter")
    _merge_student(TrainedStudent(str(TAUGHT), str(tmp_path / "adapter")), tmp_path / "merged")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert whole.dtype == torch.float32
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(whole(ids).logits, adapted.eval()(ids).logits, atol=1e-4, rtol=1e-4)
