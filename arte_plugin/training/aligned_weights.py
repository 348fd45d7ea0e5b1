"""What a training leaves in `output_dir`, looked at before the aligned teacher is loaded from it.

A sharded training may leave pieces, or weights under names that loading passes over without a word: the aligned teacher
would then be the unaligned one.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from arte_plugin import ranks
from arte_plugin.errors import ConfigError, StageError
from arte_plugin.ranks import LOGGER
from arte_plugin.training import child

LOG = logging.getLogger(LOGGER)

#: Where accelerate puts a model's pieces (`SHARDED_STATE_DICT`), in a checkpoint or beside it.
PIECES = "pytorch_model_fsdp_0"


def refuse_pieces_without_checkpoint(cfg: Mapping[str, Any]) -> None:
    """Raises `ConfigError` before a training that would leave no weights at all.

    With `SHARDED_STATE_DICT` the Trainer writes weights only into checkpoints, from which Axolotl puts the model
    together at the end. FSDP2's adapters are the exception: Axolotl gathers them.
    """
    fsdp = cfg.get("fsdp_config") or {}
    kind = fsdp.get("final_state_dict_type") or fsdp.get("state_dict_type")
    gathered = cfg.get("adapter") and str(cfg.get("fsdp_version") or fsdp.get("fsdp_version")) == "2"
    strategy = getattr(cfg.get("save_strategy"), "value", cfg.get("save_strategy"))
    if kind == "SHARDED_STATE_DICT" and strategy == "no" and not gathered:
        raise ConfigError(
            '`fsdp_config.state_dict_type: SHARDED_STATE_DICT` with `save_strategy: "no"` leaves no weights: pieces '
            "are only written with checkpoints. Take FULL_STATE_DICT (or set `final_state_dict_type` to it), or save."
        )


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end: the trainer's state is the last file of one."""
    whole = [path for path in output_dir.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def are_there(folder: Path, adapter: bool) -> bool:
    """Whether a training has left weights in `folder`, be it in pieces. Axolotl writes the config before it trains."""
    if adapter:
        return any((folder / f"adapter_model.{kind}").is_file() for kind in ("safetensors", "bin"))
    return _is_whole(folder) or any(_pieces(folder)) or any(_zero(folder))


def make_whole(folder: Path, adapter: bool, timeout: float) -> None:
    """See to it that the aligned teacher in `folder`, an adapter or a full model, can be loaded.

    A full model that lies in pieces is put together, by the first rank, with what Axolotl has for that; the others
    wait up to `timeout` seconds without a sign. Raises `StageError` for weights that can't be loaded, with what to do.
    """
    if adapter:
        if ranks.is_first():
            repair_adapter(folder)
        ranks.wait_until(lambda: int(_is_repaired(folder)), 1, timeout, "rank 0 to look at the adapter")
    elif not _is_whole(folder):
        if ranks.is_first():
            _put_together(folder)
        ranks.wait_until(lambda: int(_is_whole(folder)), 1, timeout, "rank 0 to put the teacher's weights together")


def _is_whole(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((folder / name).is_file() for name in named)
    return any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))


def _put_together(folder: Path) -> None:
    pieces = next(_pieces(folder), None)
    if pieces is None:
        zero = next(_zero(folder), None)
        hint = (
            f"DeepSpeed left its own pieces in {zero}: put them together with `python {zero.parent}/zero_to_fp32.py "
            f"--safe_serialization {zero.parent} {folder}`, start again, and set "
            "`stage3_gather_16bit_weights_on_model_save: true` for the next training."
            if zero
            else f"There are no pieces of them either (looked for {PIECES} in it and in its newest checkpoint)."
        )
        raise StageError(f"No weights of the aligned teacher in {folder}, only its config. {hint}")
    LOG.info("putting the aligned teacher's weights together from %s", pieces)
    target, log_file = folder / "merged", folder / "arte" / "merge.log"
    shutil.rmtree(target, ignore_errors=True)
    with child.locked_log(log_file, "putting the teacher's weights together") as log:
        code = child.merge_pieces(log, pieces, target)
    if code != 0:
        raise StageError(f"Putting the aligned teacher's weights together {child.failure(code, log_file)}")
    # The index last: it says that the others are there.
    for file in sorted(target.iterdir(), key=lambda path: path.suffix == ".json"):
        file.rename(folder / file.name)
    target.rmdir()


def _places(folder: Path) -> list[Path]:
    checkpoint = last_checkpoint(folder)
    return [folder, checkpoint] if checkpoint else [folder]


def _pieces(folder: Path) -> Iterator[Path]:
    return (place / PIECES for place in _places(folder) if (place / PIECES / ".metadata").is_file())


def _zero(folder: Path) -> Iterator[Path]:
    return (path for place in _places(folder) for path in place.glob("global_step*") if path.is_dir())


def repair_adapter(folder: Path) -> None:
    """Give an adapter's weights the names that PEFT looks for; it passes over others without a word.

    Axolotl 0.19 gathers the adapter of a DPO under FSDP2 from the model below PEFT's, whose names lack the beginning
    (0.21 puts it there); a sharded checkpoint names the adapter itself, too (`.default.`).
    """
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        if (folder / "adapter_model.bin").is_file():
            return
        raise StageError(
            f"No weights of the aligned teacher's adapter in {folder}, only its config. Did the training end? With "
            "FSDP, `state_dict_type: FULL_STATE_DICT` writes them."
        )
    from safetensors import safe_open

    with safe_open(file, "pt") as weights:
        names = {name: _peft_name(name) for name in weights.keys()}  # noqa: SIM118 - it is no mapping
        if all(name == wanted for name, wanted in names.items()):
            return
        renamed = {wanted: weights.get_tensor(name) for name, wanted in names.items()}
    from safetensors.torch import save_file

    LOG.warning("%s: its weights have other names than PEFT's, such as %s; they are renamed", file, next(iter(names)))
    unfinished = file.with_suffix(".unfinished")
    save_file(renamed, unfinished, metadata={"format": "pt"})
    unfinished.replace(file)


def _is_repaired(folder: Path) -> bool:
    from safetensors import safe_open

    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        return True
    with safe_open(file, "pt") as weights:
        return all(name == _peft_name(name) for name in weights.keys())  # noqa: SIM118


def _peft_name(name: str) -> str:
    parts = [part for part in name.split(".") if part not in ("default", "_fsdp_wrapped_module")]
    return ".".join(parts if parts[0] == "base_model" else ["base_model", "model", *parts])


def check_loaded(model: Any, adapter: str | Path) -> None:
    """Raises `StageError` where weights of `adapter` are not those that `model`, a PEFT model, has in use."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    file = Path(adapter) / "adapter_model.safetensors"
    if not file.is_file():
        return
    wanted = {name for name in get_peft_model_state_dict(model) if "lora_" in name}
    with safe_open(file, "pt") as weights:
        missing = sorted(wanted - set(weights.keys()))
    if missing:
        raise StageError(
            f"{len(missing)} of the {len(wanted)} weights of the aligned teacher's adapter are not in {file}, such as "
            f"{missing[0]}: the teacher would be the unaligned one. Is its adapter_config.json another training's?"
        )
