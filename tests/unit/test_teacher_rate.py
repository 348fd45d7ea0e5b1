"""The sweep behind stage 5's recipe: what it trains on has nothing of what it weighs, and its figures add up."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from arte_plugin.rows import PreferencePair
from arte_plugin.training.teacher_recipe import ADAPTER, missing
from benchmarks.teacher_rate.run import CELLS, HELD_OUT, RESULTS, mean_and_error, moved, relative_update, split
from tests.taught import TAUGHT


def pairs(level, count):
    return [
        PreferencePair(f"{level[0]}-{task}{i}", level, task, f"prompt {task}{i}", "a", "b", 1, 0, f"{task}{i}-x", "y")
        for task in ("s", "t")
        for i in range(count)
    ]


def test_what_is_held_out_is_not_trained_on():
    rationales = pairs("rationale", 40)
    held_out, train = split([*rationales, *pairs("question", 4)], seed=1)
    assert [sum(pair.task == task for pair in held_out) for task in ("s", "t")] == [HELD_OUT, HELD_OUT]
    assert not {pair.prompt for pair in held_out} & {pair.prompt for pair in train}
    assert sorted(pair.pair_id for pair in [*held_out, *train]) == sorted(pair.pair_id for pair in rationales)
    assert split(rationales, seed=1) == (held_out, train) != split(rationales, seed=2)


def test_changes_of_likelihood():
    found = moved([[-1.0, -4.0], [-3.0, -3.0]], [[-2.0, -2.0], [-2.0, -3.0]])
    assert (found["n"], found["right"], found["accuracy"]) == (2, 1, 0.5)
    assert (found["margin"][0], found["chosen"][0], found["rejected"][0]) == (1.0, 0.0, -1.0)
    assert mean_and_error([1.0, 3.0]) == [2.0, 1.0]


def test_update_is_that_of_the_adapter():
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(TAUGHT), LoraConfig(r=2, target_modules=["q_proj"]))
    layer = next(one for one in model.modules() if hasattr(one, "lora_B"))
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    whole = sum(float(one.base_layer.weight.square().sum()) for one in model.modules() if hasattr(one, "lora_B"))
    assert relative_update(model) == pytest.approx(float(layer.get_delta_weight("default").norm()) / math.sqrt(whole))


def test_results_are_of_the_grid_and_the_recipe_is_among_them():
    rows = json.loads(RESULTS.read_text())
    done = [tuple(row[key] for key in asdict(CELLS[0])) for row in rows]
    assert len(set(done)) == len(done) and set(done) <= {tuple(asdict(cell).values()) for cell in CELLS}
    recipe = missing({"adapter": "lora", "arte": {}}, 1)
    assert (ADAPTER["learning_rate"], recipe["num_epochs"], recipe["rl_beta"], 0.0) in done
