"""Where a model that is asked lies, and in which precision: on this process's GPU, as it would be loaded by itself."""

import logging
import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from arte_plugin import ranks
from arte_plugin.errors import ConfigError, StageError
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: Of what is free on a GPU, what a model's weights may take there if it is to write as well: keys and values, and what
#: a prompt takes as it passes, come to that.
_WEIGHTS = 0.8


def own_gpu() -> int:
    """The number of this process's GPU among those that it sees: each rank on a machine has one of its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def device() -> str:
    """This process's GPU, or the CPU where there is none, as torch calls it."""
    import torch

    return f"cuda:{own_gpu()}" if torch.cuda.is_available() else "cpu"


def take_own_gpu() -> None:
    """With several ranks: what asks for "cuda" gets this rank's GPU from now on, and not everybody the first."""
    import torch

    if ranks.world_size() > 1 and torch.cuda.is_available() and own_gpu() < torch.cuda.device_count():
        torch.cuda.set_device(own_gpu())


def stay_on_cpu(cfg: Any) -> None:
    """With several ranks Axolotl sends each to an accelerator of its own number, there or not."""
    import torch

    if ranks.world_size() > 1 and not torch.accelerator.is_available():
        cfg["device_map"] = {"": "cpu"}


def device_map(cfg: Mapping[str, Any]) -> Any:
    """`device_map` for the teacher that `cfg` describes, Axolotl's config of it, when it is loaded to write.

    Under its launcher Axolotl names none and leaves the model to the Trainer, of which there is none here; without the
    launcher it is "auto", which spreads over all GPUs even what one of them holds, to have them work by turns. What the
    YAML says itself, and what Axolotl names for several ranks, stays.
    """
    import torch

    given = cfg.get("device_map")
    if given not in (None, "auto") or cfg.get("max_memory") or not torch.cuda.is_available():
        return given
    gpus = torch.cuda.device_count()
    if gpus < 2 or ranks.world_size() > 1:
        return {"": own_gpu()}
    if (needed := _weights(cfg)) is None:
        return "auto"
    free, _ = torch.cuda.mem_get_info(own_gpu())
    sizes = f"{needed / 2**30:.0f} GiB of weights, {free / 2**30:.0f} GiB free on one of {gpus} GPUs"
    if needed <= _WEIGHTS * free:
        LOG.info(
            "the teacher writes on one GPU, where it fits (%s); `axolotl train` has one process on each of them", sizes
        )
        return {"": own_gpu()}
    LOG.warning(
        "the teacher is spread over the GPUs, which work by turns (%s). A server with tensor parallelism has them work "
        "together: `engine.teacher`, docs/scaling.md.",
        sizes,
    )
    return "auto"


def check_placed(model: Any, name: str, cfg: Mapping[str, Any] | None = None) -> None:
    """Raises `StageError` for a model that is to write on the CPU of a machine with a GPU; warns of a part of it.

    `cfg` is Axolotl's config of the model, which may ask for just that.
    """
    import torch

    asked = (cfg or {}).get("device_map")
    if not torch.cuda.is_available() or "cpu" in (asked.values() if isinstance(asked, Mapping) else [asked]):
        return
    # "meta": what accelerate has put aside, and fetches each time that it is needed.
    where = {parameter.device.type for parameter in model.parameters()}
    if not where & {"cpu", "meta"}:
        return
    if where & {"cuda"}:
        if (cfg or {}).get("ple_cpu_offload"):
            return
        LOG.warning(
            "a part of %s lies outside of the GPU, which makes it very slow: it doesn't fit. Load it in 4 bits "
            "(`load_in_4bit: true`, `adapter: qlora`), or take a smaller model.",
            name,
        )
        return
    raise StageError(
        f"{name} was loaded to the CPU, though there is a GPU, and would write a hundred times slower (`device_map` "
        f"was {asked!r}). Take keys out of the YAML that keep it there, such as `lora_on_cpu`; or hide the GPU, if it "
        'is to be so: CUDA_VISIBLE_DEVICES="".'
    )


def as_computed(cfg: Any) -> None:
    """Have a teacher that is trained with float32 weights under bfloat16 autocast write in bfloat16, on a GPU that can.

    So the training computes as well, on the same rounded weights; flash attention takes nothing else, and float32 takes
    twice the memory. `cfg` is Axolotl's config of it. On a CPU it writes in float32.
    """
    import torch

    from arte_plugin.training import child
    from arte_plugin.training.precision import AUTOCAST

    if AUTOCAST in (cfg.get("plugins") or ()) and cfg.get("torch_dtype") == torch.float32 and child.has_bf16():
        cfg["torch_dtype"] = torch.bfloat16


def one_precision(model: Any, dtype: Any) -> None:
    """Bring `model` to the precision that it was loaded in where Axolotl has left that: norms, embeddings, gates.

    It turns them into float32 for the training, whose autocast mixes them with the rest; `generate` has none, and a
    float32 row into a bfloat16 layer is an error. `dtype` is torch's, or None for as it is. The numbers were in it
    before, so nothing is lost. Buffers stay: rotary frequencies are in float32 whatever the model is in.
    """
    import torch

    if dtype not in (torch.bfloat16, torch.float16):
        return
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kept = _kept_in_float32(base, dtype)
    for name, parameter in base.named_parameters():
        of_adapter = ".lora_" in name or ".modules_to_save." in name
        if parameter.dtype == torch.float32 and not of_adapter and not any(fnmatchcase(name, one) for one in kept):
            parameter.data = parameter.data.to(dtype)


def _kept_in_float32(model: Any, dtype: Any) -> list[str]:
    """Patterns of what the model's own code has in float32, whatever it is loaded in."""
    import torch

    lists = ["_keep_in_fp32_modules_strict", *(["_keep_in_fp32_modules"] if dtype == torch.float16 else [])]
    return [f"*{one}*" for name in lists for one in getattr(model, name, None) or ()]


def _weights(cfg: Mapping[str, Any]) -> float | None:
    """Bytes of the weights of the model that `cfg` describes; None where that can't be told without loading it."""
    from arte_plugin.plan import machine, shapes

    name, dtype = str(cfg["base_model"]), str(cfg.get("torch_dtype") or "float32").removeprefix("torch.")
    try:
        shape = shapes.shape_of(name, shapes.find_config(name, cfg.get("revision_of_model")))
    except ConfigError:
        return None
    return shape.weights(dtype, machine.packing(cfg))
