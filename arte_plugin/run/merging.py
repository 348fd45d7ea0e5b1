"""An adapter merged into its base by Axolotl: what is trained next starts from the whole, and so does its reference."""

import json
import logging
from pathlib import Path
from typing import IO, Any

from arte_plugin import ranks
from arte_plugin.errors import StageError
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import write_text
from arte_plugin.run.run import Run
from arte_plugin.training import child
from arte_plugin.training.weight_change import lost_by_merging

LOG = logging.getLogger(LOGGER)


def start_from_whole_teacher(run: Run) -> None:
    """Merge the teacher's own adapter, `lora_model_dir`, once, and put the result in its place in `run.cfg`.

    Axolotl's DPO takes no weights from `lora_model_dir`: TRL puts a new adapter on the bare base, and takes that base
    for the reference. What would be aligned is another teacher than the one that wrote the drafts. Nothing is merged
    for a later round, which trains on from the adapter of the round before (`adapters`). Raises `StageError` when
    merging fails, and where the merged weights' precision would lose the adapter.
    """
    adapter = run.cfg.get("lora_model_dir")
    if not adapter or run.trains_on:
        return
    base, target = run.cfg["base_model"], run.out.path / "teacher"
    origin = _origin(base, adapter, run.cfg.get("revision_of_model"))
    if ranks.is_first() and not _is_merged(target, origin):
        log_file = target / "merge.log"
        with child.locked_log(log_file, "merging the teacher's adapter") as log:
            revision = run.cfg.get("revision_of_model")
            dtype = "bfloat16" if run.cfg.get("bf16") or run.cfg.get("bfloat16") else "float32"
            refuse_lossy(base, adapter, dtype, "the teacher's", revision)
            merge(log, log_file, run.cfg["axolotl_config_path"], base, adapter, target, revision)
    done = lambda: int(_is_merged(target, origin))  # noqa: E731
    ranks.wait_until(done, 1, run.args.engine.rank_timeout, "rank 0 to merge the teacher's adapter")
    merged = str((target / "merged").absolute())
    for key in ("base_model", "base_model_config", "tokenizer_config"):
        if run.cfg.get(key) == base:
            run.cfg[key] = merged
    run.cfg["lora_model_dir"] = run.cfg["revision_of_model"] = None


def hand_over(cfg: Any, run: Run) -> None:
    """Give the training of `cfg` the teacher that `run` asks."""
    for key in ("base_model", "base_model_config", "tokenizer_config", "revision_of_model"):
        if cfg.get(key) != run.cfg.get(key):
            cfg[key] = run.cfg.get(key)
    # Merged, or put into the trainer's own adapter.
    cfg["lora_model_dir"] = None


def merge(
    log: IO[bytes], log_file: Path, config_file: Any, base: str, adapter: str | Path, target: Path,
    revision: str | None = None,
) -> None:  # fmt: skip
    """`axolotl merge-lora` of `adapter` into `base`, to `target/merged`, unless that is done.

    `revision` is that of the base, as it stands in the config. Raises `StageError` when it fails, with the end of its
    log.
    """
    origin = _origin(base, adapter, revision)
    if _is_merged(target, origin):
        return
    LOG.info("merging the teacher's adapter %s into %s", adapter, target / "merged")
    (target / _MARKER).unlink(missing_ok=True)
    places = {"base-model": base, "lora-model-dir": Path(adapter).absolute(), "output-dir": target.absolute()}
    # Told of 4 bits, Axolotl rounds all matrices to them on the way, also those that QLoRA never quantises.
    exact = ["--adapter=lora", "--no-load-in-4bit", "--no-load-in-8bit"]
    options = [*(f"--{key}={value}" for key, value in places.items()), *exact]
    code = child.axolotl(log, "merge-lora", str(config_file), *options)
    if code != 0 or not (target / "merged/config.json").is_file():
        raise StageError(f"Merging the teacher's adapter {child.failure(code, log_file)}")
    write_text(target / _MARKER, origin)


#: The share of an adapter's update that merging may lose.
_MOST_LOST = 0.1


def refuse_lossy(base: str, adapter: str | Path, dtype: str, whose: str, revision: str | None = None) -> None:
    """Raises `StageError` where rounding the merged weights to `dtype` would lose more than a tenth of the adapter."""
    lost = lost_by_merging(base, Path(adapter), dtype, revision)
    LOG.info("merging %s adapter loses %.1f %% of it", whose, 100 * lost)
    if lost > _MOST_LOST:
        raise StageError(
            f"Merging {whose} adapter {adapter} would lose {100 * lost:.0f} % of it: beside the weights of {base} it "
            f"is too small for {dtype}. Train it further, with a larger `learning_rate` or for longer, or merge it "
            "yourself in float32 and name the result as the `base_model`, with `bf16: false`."
        )


_MARKER = "merged-from.json"


def _origin(base: str, adapter: str | Path, revision: str | None) -> str:
    return json.dumps({"base": fingerprint_model(base, revision), "adapter": fingerprint_model(str(adapter))}) + "\n"


def _is_merged(target: Path, origin: str) -> bool:
    marker = target / _MARKER
    return marker.is_file() and marker.read_text(encoding="utf-8") == origin
