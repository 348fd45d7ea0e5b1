"""How far a training has moved the weights: read from the files of what it began with and what it left."""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: Entries that are read of one matrix; of larger ones, rows at equal distances.
_SAMPLED = 1 << 20

#: An adapter with a smaller |Δw| / |w| has hardly any effect: what moved the demo's teacher was 6e-4 (docs/recipes.md).
LITTLE = 1e-4

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


def change(base: str, trained: Path, who: str, revision: str | None = None, start: str | None = None) -> Change | None:
    """From the model `base`, a directory or Hub id, to what lies in `trained`: an adapter on it, or all weights.

    With `start`, from that adapter on. A sample of the rows of each matrix is read. The log warns where it is little;
    `who` says of whom. None where there are no weights to be compared, such as in pieces.
    """
    try:
        with _Weights(base, revision) as before:
            if (trained / "adapter_config.json").is_file():
                found = _of_adapter(before, trained, Path(start) if start else None)
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


def _of_adapter(before: "_Weights", trained: Path, start: Path | None) -> Change | None:
    """‖B·A‖ · scale, without ever making the product: ‖BA‖² is the trace of (BᵀB)(AAᵀ)."""
    import torch

    moved = whole = 0.0
    with _Adapter(trained) as adapter, _Adapter(start) if start else nullcontext() as earlier:
        for layer in adapter.layers:
            base = _weight_below(layer)
            if base not in before.names:
                continue
            a, b = adapter.parts(layer)
            if earlier is not None and layer in earlier.layers:
                # The difference of two products is one of matrices side by side.
                earlier_a, earlier_b = earlier.parts(layer)
                a, b = torch.cat([a, earlier_a]), torch.cat([b, -earlier_b], dim=1)
            moved += float(((b.T @ b) * (a @ a.T)).sum())
            read = before.rows(base).double()
            whole += math.prod(before.shape(base)) / read.numel() * float(read.square().sum())
    return Change(math.sqrt(max(0.0, moved) / whole)) if whole else None


def lost_by_merging(base: str, adapter: Path, dtype: str, revision: str | None = None) -> float:
    """‖round(W + ΔW) − W − ΔW‖ / ‖ΔW‖: what merging `adapter` into `base` would lose, with the result in `dtype`.

    Of a sample of the rows of each matrix. 0 where there is no weight file to tell by.
    """
    import torch

    kept_in = getattr(torch, dtype)
    lost = update = 0.0
    try:
        with _Weights(base, revision) as before, _Adapter(adapter) as merged:
            for layer in merged.layers:
                if (name := _weight_below(layer)) not in before.names:
                    continue
                weights = before.rows(name).to(kept_in).double()
                a, b = merged.parts(layer)
                rows = [*_spread(b.shape[0], len(weights))]
                added = b[rows] @ a
                whole = weights + added
                lost += float((whole.to(kept_in).double() - whole).square().sum())
                update += float(added.square().sum())
    except (OSError, ValueError, KeyError) as error:
        LOG.warning("can't tell what merging %s loses: %s", adapter, error)
    return math.sqrt(lost / update) if update else 0.0


def _weight_below(layer: str) -> str:
    return layer.removeprefix("base_model.model.") + ".weight"


class _Weights:
    """The safetensors files of a model, read a few rows at a time."""

    def __init__(self, model: str, revision: str | None = None, prefix: str = "model"):
        self._folder = _folder(model, revision)
        self._prefix = prefix
        self._open = ExitStack()

    def __enter__(self) -> Self:
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


class _Adapter(_Weights):
    """A PEFT adapter's matrices, B with the scale of the product in it."""

    def __init__(self, folder: Path):
        super().__init__(str(folder), prefix="adapter_model")
        self._config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))

    @property
    def layers(self) -> list[str]:
        end = ".lora_A.weight"
        return sorted(name.removesuffix(end) for name in self.names if name.endswith(end))

    def parts(self, layer: str) -> tuple[Any, Any]:
        """A (rank × in) and B (out × rank)."""
        a, b = (self.whole(f"{layer}.lora_{part}.weight").double() for part in "AB")
        patterns = self._config.get("alpha_pattern") or {}
        alpha = next((one for key, one in patterns.items() if layer.endswith(key)), self._config["lora_alpha"])
        return a, b * (alpha / (math.sqrt(len(a)) if self._config.get("use_rslora") else len(a)))


def _spread(count: int, wanted: int) -> Iterator[int]:
    return (i * count // wanted for i in range(wanted))


def _folder(model: str, revision: str | None) -> Path:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=["*.safetensors"]))
