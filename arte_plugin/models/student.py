"""A student, or another respondent, as a model that can be probed."""

import logging
from collections.abc import Mapping
from typing import Any

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.preference_set import RespondentArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.engines.base import Engine
from arte_plugin.models import gpus_seen, placement, serving
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.models.loading import batches, keys_and_values, load_tokenizer, told_revision
from arte_plugin.models.model import Model
from arte_plugin.models.renderers import asking_renderer, more_ends
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)


def student_model(
    settings: StudentArgs,
    args: ArteArgs,
    cfg: Mapping[str, Any],
    cache: RequestCache,
    respondent: RespondentArgs | None = None,
) -> Model:
    """A student, or another respondent to be loaded like it, that can be probed.

    Raises `ConfigError` where the model is neither a directory nor on the Hub.
    """
    base_model, revision = (respondent or settings).base_model, (respondent or settings).revision
    dtype = student_dtype(settings)
    attention = settings.attn_implementation or cfg.get("attn_implementation")

    def load() -> Engine:
        import torch
        from transformers import AutoModelForCausalLM

        from arte_plugin.engines.transformers import TransformersEngine
        from arte_plugin.models.attention_kernels import pin_flash_kernel

        LOG.info("loading %s", base_model)
        pin_flash_kernel()
        model = AutoModelForCausalLM.from_pretrained(
            base_model,
            **told_revision(revision),
            dtype=getattr(torch, dtype),
            trust_remote_code=settings.trust_remote_code,
            **({"attn_implementation": attention} if attention else {}),
        )
        return TransformersEngine(
            model.to(placement.device()), renderer.tokenizer, ends=renderer.end_ids, memory=keys_and_values(args)
        )

    fingerprint = fingerprint_model(base_model, revision)
    renderer = asking_renderer(
        load_tokenizer(base_model, settings.trust_remote_code, revision),
        settings if respondent is None else respondent,
        args,
    )
    name = settings.name if respondent is None else base_model
    ends = more_ends(renderer)
    if served := serving.served_by(args, "student", base_model):
        # A student that is its own respondent is one server, with one log.
        server = settings.name if base_model == settings.base_model else base_model
        return Model(
            name, {"model": fingerprint, **serving.server_identity(args, served), **ends}, renderer,
            serving.server_loader(args, served, cfg, server, base_model, renderer, revision=revision), cache,
            serving.requests_at_a_time(args, served), args.engine.rank_timeout, served=True,
        )  # fmt: skip
    engine = versions.engine("transformers")
    # The checkpoint's own code may compute something else than the library's.
    code = {"trust_remote_code": True} if settings.trust_remote_code else {}
    identity = {"model": fingerprint, "dtype": dtype, "attention": attention, "engine": engine, **ends, **code}
    return Model(
        name, identity, renderer, load, cache, **batches(args.probe.batch_size, 160),
        rank_timeout=args.engine.rank_timeout,
    )  # fmt: skip


def student_dtype(student: StudentArgs) -> str:
    """The precision that a student is probed and evaluated in."""
    if student.dtype != "auto":
        return student.dtype
    return "bfloat16" if gpus_seen.seen().bf16 else "float32"
