"""`arte.student.dpo`: the tuned student's own DPO, stage 7b."""

from collections.abc import Mapping
from typing import Any

from arte_plugin.config.plugs import Chosen, chosen
from arte_plugin.config.sft import check_sft_keys
from arte_plugin.pairings.attempts import AttemptsArgs

PAIRING = "pairing"


def pairing(dpo: Mapping[str, Any]) -> Chosen:
    """Which pairs the student is trained on. Raises `ValueError` where it is none for a student."""
    found = chosen("pairings", dpo[PAIRING])
    if found.kind.trains != "student":  # type: ignore[attr-defined]
        raise ValueError(f"`{found.name}` makes pairs for the teacher: it goes into `pair.pairing`")
    if not isinstance(found.settings, AttemptsArgs):
        raise ValueError(
            f"the settings of `{found.name}` must be an arte_plugin.pairings.attempts.AttemptsArgs: `samples` and "
            "`temperature` of the attempts that it is given"
        )
    return found


def training_keys(dpo: Mapping[str, Any]) -> dict[str, Any]:
    """Axolotl's keys among them."""
    return {key: value for key, value in dpo.items() if key != PAIRING}


def check_dpo(dpo: Mapping[str, Any], sft: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a DPO that can't come about; `sft` is the fine-tuning that it goes on from."""
    if PAIRING not in dpo:
        raise ValueError(
            "it needs a `pairing`: `right_over_wrong` (its own right attempts over its wrong ones) or "
            "`teacher_over_student` (docs/strategies.md)"
        )
    pairing(dpo)
    check_sft_keys(training_keys(dpo))
    if sft.get("adapter"):
        raise ValueError(
            f"it goes on from a student whose weights are whole, and `sft.adapter: {sft['adapter']}` leaves an adapter "
            "beside which TRL would hold the untouched student for its reference. Tune it in full, without "
            "`sft.adapter`; `dpo.adapter` may be set"
        )
    given = sorted({"chat_template", "chat_template_jinja"} & dpo.keys())
    if given:
        raise ValueError(f"`{given[0]}` would train the student behind other prompts than it was tuned on. Take it out")
