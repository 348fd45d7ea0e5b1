"""Who is served, under which identity, and by which engine."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.engines import ServedArgs, ServerEngineArgs
from arte_plugin.engines.base import Engine
from arte_plugin.errors import ConfigError
from arte_plugin.language.rendering import Renderer


def served_by(args: ArteArgs, role: Literal["teacher", "student"], base_model: str) -> ServedArgs | None:
    """The servers for a model in its role; None where transformers runs it in this process."""
    if not isinstance(args.engine, ServerEngineArgs):
        return None
    served: ServedArgs | None = getattr(args.engine, role)
    if served and served.base_urls and role == "student" and base_model != args.students[0].base_model:
        # Servers that run already have one model, the first student's.
        return None
    return served


def server_identity(args: ArteArgs, served: ServedArgs) -> dict[str, Any]:
    """What decides a server's output beside the weights, as far as it is known here. Not where it runs."""
    assert isinstance(args.engine, ServerEngineArgs)
    # The server's tokenizer instead of ours.
    as_text = {"prompts": "text"} if args.engine.prompts == "text" else {}
    return {
        "engine": versions.engine("server"),
        "api": args.engine.api,
        **as_text,
        **served.identity(),
    }


def requests_at_a_time(args: ArteArgs, served: ServedArgs) -> int:
    """The batch size: what keeps all servers busy for long."""
    from arte_plugin.engines.server import BATCH

    assert isinstance(args.engine, ServerEngineArgs)
    return BATCH * args.engine.concurrency * max(served.replicas, len(served.base_urls))


def server_loader(
    args: ArteArgs,
    served: ServedArgs,
    cfg: Mapping[str, Any],
    name: str,
    base_model: str,
    renderer: Renderer,
    adapter: Path | None = None,
    fingerprint: str | None = None,
    revision: str | None = None,
) -> Callable[[], Engine]:
    """What makes the engine when there is something to ask; `fingerprint` is that of the `adapter`'s content."""
    settings = args.engine
    assert isinstance(settings, ServerEngineArgs)

    def load() -> Engine:
        from arte_plugin.engines.dialects import Writer
        from arte_plugin.engines.own_server import OwnServer
        from arte_plugin.engines.server import ServerEngine

        adapter_name = f"arte-{fingerprint[:12]}" if fingerprint else None
        as_text = settings.prompts == "text"
        writer = Writer(settings.api, renderer, served.model or base_model, adapter_name, as_text)
        if served.command is None:
            return ServerEngine(
                writer, settings, served.base_urls, adapter=adapter, api_key=_api_key(settings.api_key_env)
            )
        command = f"{served.command} {served.adapter_options}" if adapter else served.command
        variables = {
            "model": base_model,
            "revision": revision or "main",
            "adapter": str(adapter),
            "adapter_name": adapter_name or "",
        }
        folder, stem = Path(cfg["output_dir"]) / "arte" / "servers", re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        several = served.replicas > 1
        own = [
            OwnServer(
                f"{name}, replica {replica}" if several else name,
                command,
                {**variables, "replica": str(replica)},
                folder / (f"{stem}-{replica}.log" if several else f"{stem}.log"),
                settings.start_timeout,
            )
            for replica in range(served.replicas)
        ]
        return ServerEngine(writer, settings, own=own, api_key=_api_key(settings.api_key_env))

    return load


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(f"arte.engine.api_key_env: the environment has no variable {variable}.")
    return key
