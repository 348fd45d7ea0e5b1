"""How far a training has moved the weights: read from the files of what it began with and what it left."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: Entries that are read of one matrix; of larger ones, rows at equal distances.
_SAMPLED = 1 << 20

#: A smaller |Δw| / |w| than this left the demo's teacher, asked greedily, as it was (docs/recipes.md).
LITTLE = 3e-4

#: Where fewer of the weights have changed at all, their format has rounded most of the updates away.
FEW = 0.5


@dataclass(frozen=True)
class Change:
    """What a training has done to the weights that it trained."""

    #: |Δw| / |w|, over all matrices that were trained (with an adapter: that it lies on).
    relative: float
    #: The share of weights that differ at all, as they were saved; None for an adapter, which leaves them as they are.
    changed: float | None = None

    @property
    def is_little(self) -> bool:
        """Whether that is too little to be of use."""
        return self.relative < LITTLE if self.changed is None else self.changed < FEW

    def note(self) -> str:
        """For the table."""
        moved = f"weights moved by {100 * self.relative:.2g} %"
        if self.changed is None:
            return moved + (": hardly at all, raise `learning_rate`" if self.is_little else "")
        share = f"{100 * self.changed:.0f} %" if self.changed >= 0.1 else f"{100 * self.changed:.1g} %"
        return f"{moved}, {share} of them changed" + (", most updates were rounded away" if self.is_little else "")


def change(base: str, trained: Path, who: str, revision: str | None = None) -> Change | None:
    """From the model `base`, a directory or Hub id, to what lies in `trained`: an adapter on it, or all weights.

    A sample of the rows of each matrix is read. The log warns where it is little; `who` says of whom. None where there
    are no weights to be compared, such as in pieces.
    """
    try:
        with _Weights(base, revision) as before:
            if (trained / "adapter_config.json").is_file():
                found = _of_adapter(before, trained)
            else:
                with _Weights(str(trained)) as after:
                    found = _of_all(before, after)
        if found is not None and found.is_little:
            LOG.warning("%s: %s", who, found.note())
        return found
    except (OSError, ValueError, KeyError) as error:
        # A figure for the table is no reason to lose a training.
        LOG.warning("can't tell how far the weights in %s have moved: %s", trained, error)
        return None


def _of_all(before: "_Weights", after: "_Weights") -> Change | None:
    moved = whole = changed = entries = 0.0
    for name in after.names & before.names:
        if len(shape := after.shape(name)) < 2 or shape != before.shape(name):
            continue
        left = after.rows(name)
        # In the precision of what was trained: to have rounded the weights to it as they were loaded is no training.
        read = before.rows(name).to(left.dtype)
        scale = math.prod(shape) / read.numel()
        difference = left.double() - read.double()
        moved += scale * float(difference.square().sum())
        whole += scale * float(read.double().square().sum())
        changed += scale * float((difference != 0).sum())
        entries += math.prod(shape)
    return Change(math.sqrt(moved / whole), changed / entries) if whole else None


def _of_adapter(before: "_Weights", trained: Path) -> Change | None:
    """‖B·A‖ · scale, without ever making the product: ‖BA‖² is the trace of (BᵀB)(AAᵀ)."""
    config = json.loads((trained / "adapter_config.json").read_text(encoding="utf-8"))
    moved = whole = 0.0
    with _Weights(str(trained), prefix="adapter_model") as adapter:
        for name in sorted(adapter.names):
            if not name.endswith(".lora_A.weight"):
                continue
            layer = name.removesuffix(".lora_A.weight")
            a, b = (adapter.whole(f"{layer}.lora_{part}.weight").double() for part in "AB")
            base = layer.removeprefix("base_model.model.") + ".weight"
            if base not in before.names:
                continue
            moved += _scale(config, layer, a.shape[0]) ** 2 * float(((b.T @ b) * (a @ a.T)).sum())
            read = before.rows(base).double()
            whole += math.prod(before.shape(base)) / read.numel() * float(read.square().sum())
    return Change(math.sqrt(max(0.0, moved) / whole)) if whole else None


def _scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """What PEFT multiplies the product of a layer's two matrices by."""
    alpha = next((one for key, one in (config.get("alpha_pattern") or {}).items() if layer.endswith(key)), None)
    alpha = config["lora_alpha"] if alpha is None else alpha
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


class _Weights:
    """The safetensors files of a model, read a few rows at a time."""

    def __init__(self, model: str, revision: str | None = None, prefix: str = "model"):
        self._folder = _folder(model, revision)
        self._prefix = prefix
        self._open = ExitStack()

    def __enter__(self) -> "_Weights":
        from safetensors import safe_open

        files = sorted(self._folder.glob(f"{self._prefix}*.safetensors"))
        if not files:
            raise ValueError(f"no {self._prefix}*.safetensors in {self._folder}")
        self._of: dict[str, Any] = {}
        for file in files:
            opened = self._open.enter_context(safe_open(file, framework="pt"))
            self._of |= dict.fromkeys(opened.keys(), opened)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def names(self) -> set[str]:
        return set(self._of)

    def shape(self, name: str) -> list[int]:
        return list(self._of[name].get_slice(name).get_shape())

    def whole(self, name: str) -> Any:
        return self._of[name].get_tensor(name)

    def rows(self, name: str) -> Any:
        """All of a small matrix; of a large one, rows at equal distances."""
        import torch

        shape = self.shape(name)
        wanted = max(1, _SAMPLED // math.prod(shape[1:]))
        if shape[0] <= wanted:
            return self.whole(name)
        part = self._of[name].get_slice(name)
        return torch.cat([part[row : row + 1] for row in _spread(shape[0], wanted)])


def _spread(count: int, wanted: int) -> Iterator[int]:
    return (i * count // wanted for i in range(wanted))


def _folder(model: str, revision: str | None) -> Path:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=["*.safetensors"]))
