"""The losses of docs/recipes.md: what Axolotl's own trainer computes for their YAML keys is what the formula says."""

import math

import pytest

from arte_plugin.config.losses import check_rl
from arte_plugin.training import teacher_recipe
from tests.trl_loss import losses, trainer

BETA = 0.3
PAIRS = [
    ("Add.", " 2 and 2", " 5"),
    ("Add three and four.", " 4", " I see no reason to"),
    ("Add.", " seven", " eight and some more"),
]


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def dpo(found, beta=BETA):
    return mean(-log_sigmoid(beta * one.margin) for one in found)


def normed(found, beta=BETA):
    """LN-DPO, 2407.15229: each log-ratio over its own tokens."""
    return mean(
        -log_sigmoid(beta * (one.chosen_ratio / one.chosen_tokens - one.rejected_ratio / one.rejected_tokens))
        for one in found
    )


def sft(found):
    """Negative log-likelihood of what is chosen, a token."""
    return -sum(one.chosen for one in found) / sum(one.chosen_tokens for one in found)


def ipo(found):
    """2310.12036, eq. 17, of means over tokens."""
    return mean(
        (one.chosen_ratio / one.chosen_tokens - one.rejected_ratio / one.rejected_tokens - 1 / (2 * BETA)) ** 2
        for one in found
    )


def robust(found, flipped=0.1):
    """2403.00409: unbiased where a share of the preferences is turned round."""
    return mean(
        (-(1 - flipped) * log_sigmoid(BETA * one.margin) + flipped * log_sigmoid(-BETA * one.margin))
        / (1 - 2 * flipped)
        for one in found
    )


def apo_zero(found):
    """2408.06266, eq. 7."""
    return mean(
        1 - math.exp(log_sigmoid(BETA * one.chosen_ratio)) + math.exp(log_sigmoid(BETA * one.rejected_ratio))
        for one in found
    )


LOSSES = {
    "DPO": ({}, dpo),
    "LN-DPO": ({"dpo_loss_type": ["sigmoid_norm"]}, normed),
    "LN-DPO with SFT": (
        {"dpo_loss_type": ["sigmoid_norm", "sft"], "dpo_loss_weights": [1.0, 0.1]},
        lambda found: normed(found) + 0.1 * sft(found),
    ),
    "RPO": (
        {"dpo_loss_type": ["sigmoid", "sft"], "dpo_loss_weights": [1.0, 0.5]},
        lambda found: dpo(found) + 0.5 * sft(found),
    ),
    "IPO": ({"dpo_loss_type": ["ipo"]}, ipo),
    "hinge": ({"dpo_loss_type": ["hinge"]}, lambda found: mean(max(0.0, 1 - BETA * one.margin) for one in found)),
    "robust": ({"dpo_loss_type": ["robust"], "dpo_label_smoothing": 0.1}, robust),
    "APO-zero": ({"dpo_loss_type": ["apo_zero"]}, apo_zero),
    # TRL's `sigmoid` takes no notice of it, which is why the recipe names `robust`.
    "label smoothing without robust": ({"dpo_label_smoothing": 0.1}, dpo),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_trainers_loss_is_the_formulas(name, tmp_path):
    keys, formula = LOSSES[name]
    loss, found = losses(trainer(tmp_path, PAIRS, BETA, **keys))
    assert loss == pytest.approx(formula(found), rel=1e-4)
    # Policy and reference differ, so that it is none of the others' value by chance.
    assert max(abs(one.margin) for one in found) > 0.1
    if formula is not dpo:
        assert loss != pytest.approx(dpo(found), rel=1e-3)


@pytest.mark.parametrize(
    ("rl", "said"),
    [
        ("ipo", r"`dpo_loss_type: \[ipo\]`"),
        ("simpo", r"ends every reply.*`dpo_loss_type: \[sigmoid_norm\]`"),
        ("orpo", r"no reference.*`dpo_loss_weights: \[1.0, 0.1\]`"),
        ("kto", r"single replies.*`dpo_loss_type: \[bco_pair\]`"),
        (None, r"set `rl: dpo` \(found None\)$"),
    ],
)
def test_another_training_is_refused_with_what_to_write_instead(rl, said):
    with pytest.raises(ValueError, match=said):
        check_rl({"rl": rl})
    check_rl({"rl": "dpo"})


@pytest.mark.parametrize("adapter", ["lora", None])
def test_a_normed_loss_has_a_beta_of_its_own(adapter):
    def beta(**keys):
        return teacher_recipe.missing({"adapter": adapter, **keys}, 1).get("rl_beta")

    assert beta() == (0.1 if adapter else None)
    assert beta(dpo_loss_type=["sigmoid_norm", "sft"]) == 5.0
    assert beta(dpo_loss_type=["sigmoid_norm"], rl_beta=2.0) is None
    assert beta(dpo_loss_type=["sigmoid_norm"], trl={"beta": 2.0}) is None
