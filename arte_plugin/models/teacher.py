"""The teacher, as it was or aligned, as a model that can be asked."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

from arte_plugin import versions
from arte_plugin.config import axolotl_keys
from arte_plugin.config.arte import ArteArgs
from arte_plugin.engines.base import Engine
from arte_plugin.models import placement, serving
from arte_plugin.models.identity import fingerprint_files, fingerprint_model, tokenizer_hash
from arte_plugin.models.loading import batches, keys_and_values
from arte_plugin.models.model import Model
from arte_plugin.models.renderers import asking_renderer, more_ends
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.ranks import LOGGER
from arte_plugin.training import aligned_weights, sharding

LOG = logging.getLogger(LOGGER)

#: Keys of the teacher's config that have a place of their own in its identity.
_QUANTISATION = ("load_in_4bit", "load_in_8bit", "bnb_config_kwargs", "gptq")
_TOLD = ("torch_dtype", "attn_implementation")


def teacher_model(cfg: Any, args: ArteArgs, cache: RequestCache, aligned: Path | None = None) -> Model:
    """The teacher, loaded by Axolotl's own loader as it is trained: quantisation, precision, attention, adapter.

    With `aligned`, the weights that a DPO run left in that folder: its adapter on the base, or the full model.
    """
    cfg = generation_config(cfg, aligned)
    adapter = cfg.get("lora_model_dir")
    base_model, revision = cfg["base_model"], cfg.get("revision_of_model")

    def load() -> Engine:
        from axolotl.loaders import ModelLoader

        from arte_plugin.engines.transformers import TransformersEngine

        sharding.refuse_zero3()
        LOG.info("loading the teacher %s%s", base_model, f" with {adapter}" if adapter else "")
        cfg["device_map"] = placement.device_map(cfg)
        model, _ = ModelLoader(cfg, tokenizer, inference=True).load()
        if cfg.get("adapter") and not adapter:
            # Quantisation in Axolotl comes with the adapter; a fresh one must not have a say.
            model = model.unload()
        if adapter:
            aligned_weights.check_loaded(model, adapter)
        placement.check_placed(model, f"the teacher {base_model}", cfg)
        placement.one_precision(model, cfg.get("torch_dtype"))
        model.requires_grad_(False)
        return TransformersEngine(model, tokenizer, ends=renderer.end_ids, memory=keys_and_values(args))

    from axolotl.loaders import load_tokenizer

    # What a run has trained counts by its content, also in the Hub's cache: that run asked it as a folder.
    fingerprint = fingerprint_files(aligned) if aligned and not adapter else fingerprint_model(base_model, revision)
    tokenizer = load_tokenizer(cfg)
    renderer = asking_renderer(tokenizer, args.teacher, args)
    adapter_fingerprint = fingerprint_files(Path(adapter)) if adapter else None
    name = f"{base_model}{' (aligned)' if aligned else ''}"
    weights = {"model": fingerprint, "adapter": adapter_fingerprint, "tokenizer": tokenizer_hash(tokenizer)}
    weights |= more_ends(renderer)
    if served := serving.served_by(args, "teacher", base_model):
        load_server = serving.server_loader(
            args, served, cfg, "aligned teacher" if aligned else "teacher", base_model, renderer,
            Path(adapter) if adapter else None, adapter_fingerprint, revision,
        )  # fmt: skip
        return Model(
            name, {**weights, **serving.server_identity(args, served)}, renderer, load_server, cache,
            serving.requests_at_a_time(args, served), args.engine.rank_timeout, served=True,
        )  # fmt: skip
    decisive = axolotl_keys.of_generation(cfg)
    identity = {
        **weights,
        "quantisation": {key: decisive[key] for key in _QUANTISATION if key in decisive},
        "dtype": str(cfg.get("torch_dtype")),
        "attention": cfg.get("attn_implementation"),
        "engine": versions.engine("transformers"),
    }
    rest = {key: value for key, value in decisive.items() if key not in (*_QUANTISATION, *_TOLD)}
    if rest:
        identity["settings"] = json.loads(json.dumps(rest, default=str))
    return Model(
        name, identity, renderer, load, cache, **batches(args.elicit.batch_size, 16),
        rank_timeout=args.engine.rank_timeout,
    )  # fmt: skip


def generation_config(cfg: Any, aligned: Path | None) -> Any:
    """A copy of the teacher's config to generate with: no training, no sharding, aligned weights if asked for."""
    cfg = copy.deepcopy(cfg)
    # Plugins' and trainers' business; a reference model would be loaded for `rl`.
    for key in ("rl", "fsdp", "fsdp_config", "deepspeed", "gradient_checkpointing", "sample_packing"):
        cfg[key] = None
    if aligned:
        if cfg.get("adapter"):
            cfg["lora_model_dir"] = str(aligned)
        else:
            cfg["base_model"] = cfg["base_model_config"] = str(aligned)
            cfg["revision_of_model"] = None
    placement.as_computed(cfg)
    return cfg
